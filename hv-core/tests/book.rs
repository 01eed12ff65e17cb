//! The tables of the book that stand in the code: each is rendered, and must be what the chapter says.
//! `UPDATE_SPEC=1 cargo test -p hv-core --test book` writes them.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use hv_core::emulate::cpuid::filter;
use hv_core::emulate::msr::table::{self, On, Treatment};

fn bits(mask: u32) -> String {
    let bits: Vec<String> =
        (0..32).filter(|bit| mask >> bit & 1 != 0).map(|bit| bit.to_string()).collect();
    bits.join(", ")
}

fn cpuid() -> String {
    let mut text = String::from("| leaf | register | bits | why |\n|---|---|---|---|\n");
    for row in &filter::ROWS {
        let register = ["EAX", "EBX", "ECX", "EDX"][row.register];
        let leaf = match row.subleaf {
            0 => format!("{:X}h", row.leaf),
            subleaf => format!("{:X}h.{subleaf}", row.leaf),
        };
        let which = match (row.pass, row.pass.count_ones()) {
            (0, _) => "none is shown".to_owned(),
            (shown, 0..=16) => format!("shown: {}", bits(shown)),
            (shown, _) => format!("hidden: {}", bits(!shown)),
        };
        writeln!(text, "| {leaf} | {register} | {which} | {} |", row.why).unwrap();
    }
    text
}

fn msrs() -> String {
    let mut text =
        String::from("| MSR | CPUs | treatment | what it is, and why |\n|---|---|---|---|\n");
    for row in table::ROWS {
        let numbers = match row.first == row.last {
            true => format!("{:X}h", row.first),
            false => format!("{:X}h-{:X}h", row.first, row.last),
        };
        let cpus = match row.on {
            On::All => "all",
            On::Amd => "AMD",
        };
        let treatment = match row.treatment {
            Treatment::Pass => "passes".to_owned(),
            Treatment::PassSwitched => {
                "passes under AMD-V, else reads pass, writes are emulated".to_owned()
            }
            Treatment::PassRead => "reads pass, writes are emulated".to_owned(),
            Treatment::PassReadOwn => "reads pass under VT-x, else it is emulated".to_owned(),
            Treatment::Emulate => "emulated".to_owned(),
            Treatment::Ignore(value) => format!("reads {value:X}h, writes are dropped"),
            Treatment::Constant(value) => format!("reads {value:X}h, writes are #GP"),
        };
        writeln!(text, "| {numbers} | {cpus} | {treatment} | {} |", row.why).unwrap();
    }
    text
}

#[test]
fn the_cpu_model_in_the_book_is_that_of_the_code() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/src/unmodified.md");
    let book = fs::read_to_string(&path).unwrap();
    let mut rendered = book.clone();
    for (name, table) in [("cpuid", cpuid()), ("msrs", msrs())] {
        let (start, end) = (format!("<!-- from the code: {name} -->\n"), "<!-- as in the code -->");
        let at = rendered.find(&start).unwrap_or_else(|| panic!("no table {name}")) + start.len();
        let length = rendered[at..].find(end).expect("the table ends");
        rendered.replace_range(at..at + length, &format!("\n{table}\n"));
    }
    if std::env::var_os("UPDATE_SPEC").is_some() {
        fs::write(&path, &rendered).unwrap();
    } else {
        assert!(rendered == book, "run UPDATE_SPEC=1 cargo test -p hv-core --test book");
    }
}
