//! Ports: from where an event goes, and where it arrives. A port is joined with one of another VM, or, for
//! events between the vCPUs of a VM, with itself.
//!
//! What a port is bound to is one word, so that a sender reads it without a lock. Who opens, connects or closes
//! one holds the locks of both VMs, that of the lower number first. An event that is on its way when its port is
//! closed arrives at whatever the port is then.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use pv_abi::Status;
use pv_abi::event::PORTS;
use spin::{Mutex, MutexGuard};

use super::Vm;
use super::post::{Post, lowest};

/// What the ports of a VM are bound to; 0 for one that is closed.
pub type Bindings = [AtomicU64; PORTS as usize];

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Binding {
    /// The vCPU that its events are for.
    vcpu: u8,
    /// The VM that it is for.
    vm: u8,
    /// The port there that it is connected with.
    peer: Option<u16>,
}

const OPEN: u64 = 1 << 0;
const CONNECTED: u64 = 1 << 1;

impl Binding {
    fn pack(self) -> u64 {
        let peer = self.peer.map_or(0, |peer| CONNECTED | u64::from(peer) << 32);
        OPEN | u64::from(self.vcpu) << 8 | u64::from(self.vm) << 16 | peer
    }

    fn unpack(packed: u64) -> Option<Binding> {
        let peer = (packed & CONNECTED != 0).then_some((packed >> 32) as u16);
        let binding = Binding { vcpu: (packed >> 8) as u8, vm: (packed >> 16) as u8, peer };
        (packed & OPEN != 0).then_some(binding)
    }
}

/// The ports of a VM.
pub struct Ports {
    bindings: &'static Bindings,
    /// Held while one of them changes.
    changes: Mutex<()>,
    /// Those that are open for other VMs. It changes with the lock held, and so does the next.
    abroad: AtomicU32,
    /// The VM has ended.
    ended: AtomicBool,
}

/// Where an event arrives.
pub struct End {
    /// The vCPU.
    pub post: &'static Post,
    /// The port.
    pub port: u16,
}

impl Ports {
    /// All closed: the bindings are 0.
    pub fn new(bindings: &'static Bindings) -> Ports {
        Ports {
            bindings,
            changes: Mutex::new(()),
            abroad: AtomicU32::new(0),
            ended: AtomicBool::new(false),
        }
    }

    /// Whether other VMs may raise some.
    pub fn are_reachable(&self) -> bool {
        self.abroad.load(Ordering::SeqCst) != 0
    }

    fn get(&self, port: u16) -> Option<Binding> {
        Binding::unpack(self.bindings.get(usize::from(port))?.load(Ordering::SeqCst))
    }

    fn set(&self, port: u16, binding: Option<Binding>) {
        if let Some(place) = self.bindings.get(usize::from(port)) {
            place.store(binding.map_or(0, Binding::pack), Ordering::SeqCst);
        }
    }
}

/// Holds the locks of two VMs, which may be one.
fn lock<'a>(one: &'a Vm, other: &'a Vm) -> (MutexGuard<'a, ()>, Option<MutexGuard<'a, ()>>) {
    let (first, second) = if one.number <= other.number { (one, other) } else { (other, one) };
    let held = first.ports.changes.lock();
    let both = !core::ptr::eq(first, second);
    (held, both.then(|| second.ports.changes.lock()))
}

impl Vm {
    /// The VM with this number that a port can be for.
    fn other(&self, number: u64) -> Option<&Vm> {
        if number == u64::from(self.number) { Some(self) } else { self.peer(number) }
    }

    fn end(&self, port: u16, binding: Binding) -> Option<End> {
        Some(End { post: self.posts.get(usize::from(binding.vcpu)).copied()?, port })
    }

    /// Opens a port, whose events are for `vcpu`, for the VM with number `vm`.
    ///
    /// # Errors
    ///
    /// Those of the call.
    #[inline(never)]
    pub fn open_port(&self, port: u16, vcpu: u8, vm: u64) -> Result<(), Status> {
        let _held = self.ports.changes.lock();
        if self.ports.get(port).is_some() {
            return Err(Status::AlreadyDone);
        }
        let other = self.other(vm).ok_or(Status::Denied)?;
        if other.ports.ended.load(Ordering::SeqCst) {
            return Err(Status::NotReady);
        }
        let own = core::ptr::eq(other, self);
        self.ports.set(port, Some(Binding { vcpu, vm: other.number, peer: own.then_some(port) }));
        self.ports.abroad.fetch_add(u32::from(!own), Ordering::SeqCst);
        Ok(())
    }

    /// Connects an open port with port `remote` of the VM that it is for, and returns that, which is to be
    /// raised.
    ///
    /// # Errors
    ///
    /// Those of the call.
    #[inline(never)]
    pub fn connect_port(&self, port: u16, remote: u16) -> Result<Option<End>, Status> {
        let vm = self.ports.get(port).ok_or(Status::NotReady)?.vm;
        let other = self.other(vm.into()).ok_or(Status::NotReady)?;
        let _held = lock(self, other);
        // It may have been closed, and opened for another VM, before it was held.
        let ours = self.ports.get(port).filter(|ours| ours.vm == vm).ok_or(Status::NotReady)?;
        let theirs = other.ports.get(remote).filter(|theirs| theirs.vm == self.number);
        if ours.peer.or(theirs.and_then(|theirs| theirs.peer)).is_some() {
            return Err(Status::AlreadyDone);
        }
        let theirs = theirs.ok_or(Status::NotReady)?;
        other.ports.set(remote, Some(Binding { peer: Some(port), ..theirs }));
        self.ports.set(port, Some(Binding { peer: Some(remote), ..ours }));
        Ok(other.end(remote, theirs))
    }

    /// Closes a port, and returns its peer in the other VM, which is to be raised.
    ///
    /// # Errors
    ///
    /// Those of the call.
    #[inline(never)]
    pub fn close_port(&self, port: u16) -> Result<Option<End>, Status> {
        let vm = self.ports.get(port).ok_or(Status::NotReady)?.vm;
        let other = self.other(vm.into()).ok_or(Status::NotReady)?;
        let _held = lock(self, other);
        let ours = self.ports.get(port).filter(|ours| ours.vm == vm).ok_or(Status::NotReady)?;
        self.ports.set(port, None);
        if core::ptr::eq(other, self) {
            return Ok(None);
        }
        self.ports.abroad.fetch_sub(1, Ordering::SeqCst);
        let theirs = ours.peer.and_then(|peer| Some((peer, other.ports.get(peer)?)));
        let Some((peer, theirs)) = theirs else { return Ok(None) };
        other.ports.set(peer, Some(Binding { peer: None, ..theirs }));
        Ok(other.end(peer, theirs))
    }

    /// Where an event arrives that is sent from a port.
    ///
    /// # Errors
    ///
    /// [`Status::NotReady`] if the port is not connected.
    pub fn peer_of(&self, port: u16) -> Result<End, Status> {
        let end = || {
            let ours = self.ports.get(port)?;
            let (other, peer) = (self.other(ours.vm.into())?, ours.peer?);
            other.end(peer, other.ports.get(peer)?)
        };
        end().ok_or(Status::NotReady)
    }

    /// Closes all ports, or those whose events are for `vcpu`; each that is to be raised is given to `raise`.
    #[inline(never)]
    pub fn close_ports(&self, vcpu: Option<u8>, raise: &mut dyn FnMut(End)) {
        for port in 0..PORTS {
            let here = self.ports.get(port);
            if here.is_some_and(|binding| vcpu.is_none_or(|vcpu| vcpu == binding.vcpu))
                && let Ok(Some(end)) = self.close_port(port)
            {
                raise(end);
            }
        }
    }

    /// The VM, whose ports are closed, has ended: nobody can have one open for it, so those that are get closed,
    /// and are given to `raise`.
    #[inline(never)]
    pub fn end_ports(&self, raise: &mut dyn FnMut(End)) {
        drop({
            let held = self.ports.changes.lock();
            self.ports.ended.store(true, Ordering::SeqCst);
            held
        });
        let mut links = self.links;
        while let Some(number) = lowest(&mut links) {
            let Some(other) = self.peer(number.into()) else { continue };
            // With the lock, whoever was about to open one has done it, or will see that the VM has ended.
            let _held = other.ports.changes.lock();
            for port in 0..PORTS {
                let Some(binding) = other.ports.get(port).filter(|open| open.vm == self.number)
                else {
                    continue;
                };
                other.ports.set(port, None);
                other.end(port, binding).into_iter().for_each(&mut *raise);
                // Last: a VM that nobody reaches and that sleeps without having been told anything is ended.
                other.ports.abroad.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}
