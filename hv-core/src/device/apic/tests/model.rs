//! Two machines that run the same guest: one traps every access, the other is a model of a CPU with
//! APIC-register virtualization and virtual-interrupt delivery (SDM vol. 3, APIC Virtualization and
//! Virtual Interrupts).

use std::collections::BTreeSet;
use std::vec::Vec;

use super::super::page::offset::*;
use super::*;

/// What the guest, or the rest of the VM, can observe besides registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Taken(u8),
    Sent(Ipi),
    Broadcast(u8),
    Nmi,
}

pub trait Machine {
    fn apic(&mut self) -> &mut VirtualApic<Box<ApicPage>>;
    fn events(&mut self) -> &mut Vec<Event>;
    /// The guest reads the register at `offset`, by whichever way its mode has.
    fn read(&mut self, offset: u16, now: u64) -> Result<u64, GeneralProtection>;
    fn write(&mut self, offset: u16, value: u64, now: u64) -> Result<(), GeneralProtection>;
    fn set_cr8(&mut self, value: u64);
    /// The guest writes to an MSR outside the x2APIC range.
    fn other_msr(&mut self, msr: u32, value: u64, now: u64) -> Result<(), GeneralProtection>;
    fn post(&mut self, vector: u8, trigger: Trigger);
    fn advance(&mut self, now: u64);
    /// The guest can be interrupted: it takes what there is.
    fn interruptible(&mut self);

    /// What the hypervisor does about an effect: this VM has one vCPU.
    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Ipi(ipi) => {
                self.events().push(Event::Sent(ipi));
                if self.apic().is_addressed(&ipi, true) {
                    let effect = self.apic().accept(&ipi);
                    self.act(effect);
                }
            }
            Effect::Eoi { vector, broadcast: true } => self.events().push(Event::Broadcast(vector)),
            Effect::Nmi => self.events().push(Event::Nmi),
            _ => {}
        }
    }

    fn exit_read(&mut self, offset: u16, now: u64) -> Result<u64, GeneralProtection> {
        match self.apic().mode() {
            Mode::X2Apic => self.apic().msr_read(0x800 + u32::from(offset >> 4), now),
            _ => Ok(self.apic().mmio_read(offset, now).into()),
        }
    }

    fn exit_write(&mut self, offset: u16, value: u64, now: u64) -> Result<(), GeneralProtection> {
        let effect = match self.apic().mode() {
            Mode::X2Apic => self.apic().msr_write(0x800 + u32::from(offset >> 4), value, now)?,
            _ => self.apic().mmio_write(offset, value as u32, now),
        };
        self.act(effect);
        Ok(())
    }
}

pub struct Software {
    apic: VirtualApic<Box<ApicPage>>,
    events: Vec<Event>,
}

impl Software {
    pub fn new() -> Software {
        Software { apic: apic_with(config()), events: Vec::new() }
    }
}

impl Machine for Software {
    fn apic(&mut self) -> &mut VirtualApic<Box<ApicPage>> {
        &mut self.apic
    }
    fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }
    fn read(&mut self, offset: u16, now: u64) -> Result<u64, GeneralProtection> {
        self.exit_read(offset, now)
    }
    fn write(&mut self, offset: u16, value: u64, now: u64) -> Result<(), GeneralProtection> {
        self.exit_write(offset, value, now)
    }
    fn set_cr8(&mut self, value: u64) {
        let _ = self.apic.write_cr8(value);
    }
    fn other_msr(&mut self, msr: u32, value: u64, now: u64) -> Result<(), GeneralProtection> {
        let effect = self.apic.msr_write(msr, value, now)?;
        self.act(effect);
        Ok(())
    }
    fn post(&mut self, vector: u8, trigger: Trigger) {
        let effect = self.apic.post(vector, trigger);
        self.act(effect);
    }
    fn advance(&mut self, now: u64) {
        let effect = self.apic.advance(now);
        self.act(effect);
    }
    fn interruptible(&mut self) {
        while let Some(vector) = self.apic.deliverable() {
            self.apic.acknowledge(vector);
            self.events.push(Event::Taken(vector));
        }
    }
}

/// The guest interrupt status and the CPU's recognition of a pending virtual interrupt; the rest is
/// in the page.
pub struct Virtualized {
    apic: VirtualApic<Box<ApicPage>>,
    events: Vec<Event>,
    rvi: u8,
    svi: u8,
    pending: bool,
    eoi_exits: BTreeSet<u8>,
    /// Whether the last entry was made with the controls on.
    on: bool,
}

impl Virtualized {
    pub fn new() -> Virtualized {
        Virtualized {
            apic: apic_with(config()),
            events: Vec::new(),
            rvi: 0,
            svi: 0,
            pending: false,
            eoi_exits: BTreeSet::new(),
            on: false,
        }
    }

    /// What the hypervisor does before an entry, and the CPU during one.
    fn enter(&mut self) {
        let on = self.apic.may_be_virtualized();
        if !on {
            self.apic.resume_software();
        } else if self.on {
            assert_eq!(self.svi, self.apic.svi(), "software never starts or ends an interrupt");
        }
        self.on = on;
        (self.rvi, self.svi) = (self.apic.rvi(), self.apic.svi());
        if on {
            self.virtualize_ppr();
            self.evaluate();
        }
    }

    fn evaluate(&mut self) {
        let ppr = self.apic.page().get(PPR) as u8;
        self.pending = self.rvi >> 4 > ppr >> 4;
    }

    fn virtualize_ppr(&mut self) {
        let page = self.apic.page();
        let tpr = page.get(TPR) as u8;
        let ppr = if tpr >> 4 >= self.svi >> 4 { tpr } else { self.svi & 0xf0 };
        page.set(PPR, ppr.into());
    }

    fn virtualize_tpr(&mut self) {
        self.virtualize_ppr();
        self.evaluate();
    }

    fn virtualize_eoi(&mut self, _now: u64) {
        let vector = self.svi;
        self.apic.page().remove(Vectors::Isr, vector);
        self.svi = self.apic.page().highest(Vectors::Isr).unwrap_or(0);
        self.virtualize_ppr();
        if self.eoi_exits.contains(&vector) {
            let effect = self.apic.eoi_exit(vector);
            self.act(effect);
            self.enter();
        } else {
            self.evaluate();
        }
    }

    fn virtualize_self_ipi(&mut self, vector: u8) {
        self.apic.page().insert(Vectors::Irr, vector);
        self.rvi = self.rvi.max(vector);
        self.evaluate();
    }

    fn write_exit(&mut self, offset: u16, now: u64) {
        let effect = self.apic.complete_write(offset, now);
        self.act(effect);
        self.enter();
    }

    fn write_msr(&mut self, offset: u16, value: u64, now: u64) -> Result<(), GeneralProtection> {
        let allowed = if offset == EOI { 0 } else { 0xff };
        if value & !allowed != 0 {
            return Err(GeneralProtection);
        }
        self.apic.page().set(offset, value as u32);
        match offset {
            TPR => self.virtualize_tpr(),
            EOI => self.virtualize_eoi(now),
            _ if value & 0xf0 != 0 => self.virtualize_self_ipi(value as u8),
            _ => self.write_exit(offset, now),
        }
        Ok(())
    }

    fn write_page(&mut self, offset: u16, value: u32, now: u64) {
        let page = self.apic.page();
        page.set(offset, value);
        // Fixed, edge-triggered, to self, a legal vector, and no reserved bit.
        let self_ipi = value & 0xfff3_b700 == 0 && value >> 18 & 3 == 1 && value & 0xf0 != 0;
        match offset {
            TPR => {
                page.set(TPR, value & 0xff);
                self.virtualize_tpr();
            }
            EOI => {
                page.set(EOI, 0);
                self.virtualize_eoi(now);
            }
            ICR_HIGH => page.set(ICR_HIGH, value & 0xff00_0000),
            ICR_LOW if self_ipi => self.virtualize_self_ipi(value as u8),
            _ => self.write_exit(offset, now),
        }
    }
}

/// The offsets at which the CPU carries out writes to the xAPIC page.
const VIRTUALIZED_WRITES: &[u16] = &[
    ID,
    TPR,
    EOI,
    LDR,
    DFR,
    SVR,
    ESR,
    ICR_LOW,
    ICR_HIGH,
    LVT_TIMER,
    LVT_THERMAL,
    LVT_PMC,
    LVT_LINT0,
    LVT_LINT1,
    LVT_ERROR,
    TIMER_INITIAL,
    TIMER_DIVIDE,
];

impl Machine for Virtualized {
    fn apic(&mut self) -> &mut VirtualApic<Box<ApicPage>> {
        &mut self.apic
    }
    fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }
    fn read(&mut self, offset: u16, now: u64) -> Result<u64, GeneralProtection> {
        let msr = 0x800 + u32::from(offset >> 4);
        let page = self.apic.page();
        match self.apic.mode() {
            Mode::X2Apic if self.on && msr_read_passes(msr, true) => {
                Ok(u64::from(page.get(offset + 4)) << 32 | u64::from(page.get(offset)))
            }
            Mode::XApic if self.on && register_read_passes(offset) => Ok(page.get(offset).into()),
            _ => {
                let value = self.exit_read(offset, now);
                self.enter();
                value
            }
        }
    }
    fn write(&mut self, offset: u16, value: u64, now: u64) -> Result<(), GeneralProtection> {
        let msr = 0x800 + u32::from(offset >> 4);
        match self.apic.mode() {
            Mode::X2Apic if self.on && msr_write_passes(msr, true) => {
                self.write_msr(offset, value, now)
            }
            Mode::XApic if self.on && VIRTUALIZED_WRITES.contains(&offset) => {
                self.write_page(offset, value as u32, now);
                Ok(())
            }
            _ => {
                let done = self.exit_write(offset, value, now);
                self.enter();
                done
            }
        }
    }
    fn set_cr8(&mut self, value: u64) {
        if self.on {
            self.apic.page().set(TPR, (value as u32 & 0xf) << 4);
            self.virtualize_tpr();
        } else {
            let _ = self.apic.write_cr8(value);
        }
    }
    fn other_msr(&mut self, msr: u32, value: u64, now: u64) -> Result<(), GeneralProtection> {
        let effect = self.apic.msr_write(msr, value, now)?;
        self.act(effect);
        self.enter();
        Ok(())
    }
    fn post(&mut self, vector: u8, trigger: Trigger) {
        if trigger == Trigger::Level {
            self.eoi_exits.insert(vector);
        }
        let effect = self.apic.post(vector, trigger);
        self.act(effect);
        self.enter();
    }
    fn advance(&mut self, now: u64) {
        let effect = self.apic.advance(now);
        self.act(effect);
        self.enter();
    }
    fn interruptible(&mut self) {
        while !self.on
            && let Some(vector) = self.apic.deliverable()
        {
            self.apic.acknowledge(vector);
            self.events.push(Event::Taken(vector));
        }
        while self.on && self.pending {
            let (page, vector) = (self.apic.page(), self.rvi);
            page.insert(Vectors::Isr, vector);
            self.svi = vector;
            page.set(PPR, (vector & 0xf0).into());
            page.remove(Vectors::Irr, vector);
            self.rvi = page.highest(Vectors::Irr).unwrap_or(0);
            self.pending = false;
            self.events.push(Event::Taken(vector));
        }
    }
}
