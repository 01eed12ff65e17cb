//! No CPU stays idle while somebody waits who may run there.

use std::sync::Arc;

use hv_core::sched::{ANYWHERE, Board, Member, NORMAL, Queue};
use hv_core::vm::post::{Mail, lowest};
use loom::sync::Mutex;

use super::{Line, all_orders, orders, together};

const SLICE: u64 = 1000;

struct Cpu {
    queue: Mutex<Queue<()>>,
    mail: Mail,
    line: Line,
}

/// CPUs that make their decisions as the scheduler's do.
struct Machine<const N: usize> {
    board: Board,
    cpus: [Cpu; N],
}

impl<const N: usize> Machine<N> {
    /// So many want to run on the first CPU, and one of them does. The others are idle, and so were told.
    fn new(first: usize) -> Arc<Machine<N>> {
        let cpus = std::array::from_fn(|cpu| Cpu {
            queue: Mutex::new(Queue::new(cpu, N, SLICE)),
            mail: Mail::new(),
            line: Line::default(),
        });
        let machine = Arc::new(Machine { board: Board::new(), cpus });
        (0..first).for_each(|_| machine.cpus[0].queue.lock().unwrap().join(member()));
        machine
    }

    fn call(&self, cpu: usize) {
        self.cpus[cpu].mail.announce();
        self.cpus[cpu].line.interrupt();
    }

    fn join(&self, here: usize) {
        let cpu = self.board.place(here, ANYWHERE);
        self.cpus[cpu].queue.lock().unwrap().join(member());
        if cpu != here {
            self.call(cpu);
        }
    }

    fn help(&self, cpu: usize) {
        let own = &self.cpus[cpu].queue;
        let look = |tried| own.lock().unwrap().look(&self.board, tried);
        let mut tried = 0;
        while let Some(from) = look(tried) {
            let taken = self.cpus[from].queue.lock().unwrap().take_movable(cpu);
            match taken {
                Some(member) => own.lock().unwrap().receive(member),
                None => tried |= 1 << from,
            }
        }
    }

    fn decide(&self, cpu: usize) -> Option<Box<Member<()>>> {
        for _ in 0..2 {
            self.help(cpu);
            let mut queue = self.cpus[cpu].queue.lock().unwrap();
            let picked = queue.pick();
            let mut idle = queue.publish(&self.board);
            drop(queue);
            while let Some(cpu) = lowest(&mut idle) {
                self.call(cpu.into());
            }
            if let Some((member, _)) = picked {
                return Some(member);
            }
        }
        None
    }

    /// The CPU looks for somebody to run, and halts while there is nobody.
    fn runs(&self, cpu: usize) {
        let Cpu { mail, line, .. } = &self.cpus[cpu];
        loop {
            mail.take(|_| ());
            if self.decide(cpu).is_some() {
                return;
            }
            if !mail.waits() {
                line.halt();
            }
        }
    }
}

impl<const N: usize> Machine<N> {
    /// One that runs on the CPU halts and stays, until somebody else is to run there, who then does.
    fn rests(&self, cpu: usize, mut own: Box<Member<()>>) {
        let Cpu { queue, mail, line } = &self.cpus[cpu];
        if queue.lock().unwrap().rests(&self.board) {
            while !mail.waits() {
                line.halt();
            }
            self.board.resume(cpu);
        }
        queue.lock().unwrap().leave(&mut own, SLICE / 4);
        self.runs(cpu);
    }
}

fn member() -> Box<Member<()>> {
    Box::new(Member::new((), NORMAL, SLICE, ANYWHERE))
}

#[test]
fn a_cpu_that_becomes_idle_gets_who_waits() {
    all_orders(|| {
        let machine = Machine::<2>::new(2);
        let other = machine.clone();
        together([Box::new(move || other.runs(1)) as _], || machine.runs(0));
    });
}

#[test]
fn two_idle_cpus_get_one_each() {
    orders(Some(2), || {
        let machine = Machine::<3>::new(3);
        let others = [1, 2].map(|cpu| {
            let machine = machine.clone();
            Box::new(move || machine.runs(cpu)) as _
        });
        together(others, || machine.runs(0));
    });
}

#[test]
fn one_that_wakes_up_and_one_that_waits_run_on_two_cpus() {
    orders(Some(2), || {
        let machine = Machine::<3>::new(2);
        let others = [1, 2].map(|cpu| {
            let machine = machine.clone();
            Box::new(move || machine.runs(cpu)) as _
        });
        together(others, || {
            let first = machine.decide(0).unwrap();
            machine.join(0);
            machine.cpus[0].queue.lock().unwrap().put_back(first, SLICE / 2);
            machine.runs(0);
        });
    });
}

#[test]
fn an_idle_cpu_is_given_to_one_who_wakes_up_or_called_to_one_who_waits() {
    all_orders(|| {
        let machine = Machine::<3>::new(0);
        assert!(machine.decide(0).is_none());
        (0..2).for_each(|_| machine.cpus[2].queue.lock().unwrap().join(member()));
        let placed = Arc::new(Mutex::new(0));
        let (other, place) = (machine.clone(), placed.clone());
        let wakes = move || *place.lock().unwrap() = other.board.place(1, ANYWHERE);
        let mut called = 0;
        together([Box::new(wakes) as _], || {
            let mut queue = machine.cpus[2].queue.lock().unwrap();
            queue.pick();
            called = queue.publish(&machine.board);
        });
        let placed = *placed.lock().unwrap();
        assert!(matches!((placed, called), (0, 0) | (1, 0b001)), "{placed}, {called:#b}");
    });
}

#[test]
fn a_cpu_on_which_one_rests_gets_who_waits() {
    all_orders(|| {
        let machine = Machine::<2>::new(2);
        machine.cpus[1].queue.lock().unwrap().join(member());
        let (own, _) = machine.cpus[1].queue.lock().unwrap().pick().unwrap();
        let other = machine.clone();
        together([Box::new(move || other.rests(1, own)) as _], || machine.runs(0));
    });
}

#[test]
fn one_that_rests_goes_on_or_another_is_sent_there() {
    all_orders(|| {
        let machine = Machine::<2>::new(0);
        machine.cpus[1].queue.lock().unwrap().join(member());
        let _own = machine.cpus[1].queue.lock().unwrap().pick().unwrap();
        assert!(machine.cpus[1].queue.lock().unwrap().rests(&machine.board));
        let (other, resumes) = (machine.clone(), Arc::new(Mutex::new(false)));
        let resumed = resumes.clone();
        let wakes = move || *resumed.lock().unwrap() = other.board.resume(1);
        let mut placed = 0;
        together([Box::new(wakes) as _], || placed = machine.board.place(1, 0b10));
        let resumed = *resumes.lock().unwrap();
        // Sent to a CPU that goes on, or to one that sees that it is not its own any more.
        assert!(placed == 1, "{placed}, {resumed}");
        assert!(resumed || !machine.board.resume(1));
    });
}
