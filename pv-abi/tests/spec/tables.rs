//! The tables of the specification, rendered from the crate.

use std::fmt::Write;

use pv_abi::area::{Clock, Counter, CpuidEntry, Steal, VcpuInfo, VcpuShared};
use pv_abi::call::{ARGUMENT_REGISTERS, Call, EXTENSIONS, Extension};
use pv_abi::cpuid::{self, Recommendations, leaf};
use pv_abi::exit::Reason;
use pv_abi::ring::ConsoleRing;
use pv_abi::stat::Class;
use pv_abi::{Field, Status};

/// One rendered table.
pub struct Table {
    /// The name that its marker in the specification bears.
    pub name: String,
    /// Markdown, ending in a newline.
    pub text: String,
    /// How many markers name it.
    pub uses: usize,
}

/// A wire structure as data.
pub struct Structure {
    /// Its name.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its fields, in order.
    pub fields: &'static [Field],
}

macro_rules! structures {
    ($($name:ident),*) => {
        /// Every wire structure, those that others contain first.
        pub const STRUCTURES: &[Structure] = &[$(Structure {
            name: stringify!($name),
            size: size_of::<$name>(),
            fields: $name::FIELDS,
        }),*];
    };
}

structures!(Counter, Clock, Steal, CpuidEntry, VcpuInfo, VcpuShared, ConsoleRing);

/// The registers of each discovery leaf: EAX, EBX, ECX, EDX.
const LEAVES: &[(u32, &str, [&str; 4])] = &[
    (leaf::SIGNATURE, "signature", ["highest leaf, absolute", "`\"Para\"`", "`\"vane\"`", "0"]),
    (leaf::VERSION, "version", ["ABI version", "0", "0", "0"]),
    (
        leaf::EXTENSIONS,
        "extensions",
        [
            "sub-leaf n: bits 128n to 128n+31",
            "128n+32 to 128n+63",
            "128n+64 to 128n+95",
            "128n+96 to 128n+127",
        ],
    ),
    (
        leaf::RECOMMENDATIONS,
        "recommendations",
        [
            "sub-leaf n: bits 128n to 128n+31",
            "128n+32 to 128n+63",
            "128n+64 to 128n+95",
            "128n+96 to 128n+127",
        ],
    ),
    (
        leaf::LIMITS,
        "limits",
        ["number of the calling vCPU", "vCPUs of the VM", "longest console transfer in bytes", "0"],
    ),
    (
        leaf::FREQUENCY,
        "frequency",
        [
            "TSC frequency in Hz, low half",
            "TSC frequency in Hz, high half",
            "APIC timer frequency in Hz before the divider",
            "0",
        ],
    ),
];

/// The name of a call as the specification writes it, without its extension.
pub fn call_name(call: &Call) -> String {
    let name = call.name.to_ascii_lowercase();
    name.strip_suffix("_call").unwrap_or(&name).to_string()
}

/// A documentation comment as prose: links lose their brackets and the crate's path.
pub fn prose(doc: &str) -> String {
    doc.replace("[`", "`").replace("`]", "`").replace("`crate::", "`").trim().to_string()
}

/// A number in hexadecimal, its digits in groups of four.
fn call_number(call: &Call) -> String {
    format!("0x{:04x}_{:04x}", call.number.extension(), call.number.function())
}

fn join<T>(items: impl IntoIterator<Item = T>, each: impl Fn(T) -> String) -> String {
    let joined = items.into_iter().map(each).collect::<Vec<_>>().join(", ");
    if joined.is_empty() { "none".to_string() } else { joined }
}

fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).expect("strings take everything");
    }
    text
}

/// Every table.
pub fn all() -> Vec<Table> {
    let mut tables = vec![
        ("version".to_string(), version()),
        ("status".to_string(), statuses()),
        ("extensions".to_string(), extensions()),
        ("reasons".to_string(), reasons()),
        ("leaves".to_string(), leaves()),
        ("discovery-example".to_string(), discovery_example()),
        ("recommendations".to_string(), recommendations()),
        ("selectors".to_string(), selectors()),
    ];
    for extension in EXTENSIONS {
        tables.push((format!("extension {}", extension.name), calls(extension)));
        for call in extension.calls {
            tables.push((format!("call {}.{}", extension.name, call_name(call)), one_call(call)));
        }
    }
    tables.extend(STRUCTURES.iter().map(|s| (format!("struct {}", s.name), structure(s))));
    tables.into_iter().map(|(name, text)| Table { name, text, uses: 0 }).collect()
}

fn version() -> String {
    let (major, minor) = pv_abi::version_parts(pv_abi::VERSION);
    format!("This is version **{major}.{minor}** (`{:#010x}`).\n", pv_abi::VERSION)
}

fn statuses() -> String {
    table(
        &["RAX", "name", "meaning"],
        Status::ALL.iter().map(|&s| {
            vec![u64::from(s).to_string(), format!("`{}`", s.name()), prose(s.meaning())]
        }),
    )
}

fn extensions() -> String {
    table(
        &["number", "extension", "version", "functions"],
        EXTENSIONS.iter().map(|e| {
            vec![
                format!("{:#06x}", e.number),
                format!("[`{0}`](ext/{0}.md)", e.name),
                e.version.to_string(),
                join(e.calls, |c| format!("`{}`", call_name(c))),
            ]
        }),
    )
}

fn calls(extension: &Extension) -> String {
    table(
        &["RAX", "function", "arguments", "value on success"],
        extension.calls.iter().map(|c| {
            vec![
                format!("`{}`", call_number(c)),
                format!("`{}`", call_name(c)),
                join(c.arguments, |a| format!("`{a}`")),
                c.value.to_string(),
            ]
        }),
    )
}

fn one_call(call: &Call) -> String {
    let arguments = call.arguments.iter().zip(ARGUMENT_REGISTERS);
    let rows = [
        ("RAX", format!("`{}`", call_number(call))),
        ("arguments", join(arguments, |(a, r)| format!("{r} = `{a}`"))),
        ("value (RDX)", call.value.to_string()),
        ("errors", join(call.errors, |e| format!("`{}`", e.name()))),
    ];
    let head = format!("{}\n\n", call.summary);
    head + &table(&["", ""], rows.map(|(k, v)| vec![k.to_string(), v]))
}

fn reasons() -> String {
    table(
        &["number", "name", "what happened"],
        Reason::ALL
            .iter()
            .map(|&r| vec![(r as u8).to_string(), format!("`{}`", r.name()), prose(r.meaning())]),
    )
}

fn leaves() -> String {
    assert_eq!(LEAVES.len() as u32, leaf::LAST + 1, "a leaf has no row");
    table(
        &["leaf", "name", "EAX", "EBX", "ECX", "EDX"],
        LEAVES.iter().map(|(number, name, registers)| {
            let mut row = vec![format!("base + {number}"), name.to_string()];
            row.extend(registers.iter().map(|r| r.to_string()));
            row
        }),
    )
}

fn discovery_example() -> String {
    let base = cpuid::FIRST_BASE;
    let [b, c, d] = cpuid::signature_registers();
    let bitmap = EXTENSIONS.iter().fold(0u32, |bits, e| bits | 1 << e.number);
    let line = |leaf: u32, [eax, ebx, ecx, edx]: [u32; 4], what: &str| {
        format!(
            "CPUID {:#010x}.0  EAX={eax:#010x} EBX={ebx:#010x} ECX={ecx:#010x} EDX={edx:#010x}  {what}\n",
            base + leaf
        )
    };
    format!(
        "```text\n{}{}{}```\n",
        line(leaf::SIGNATURE, [base + leaf::LAST, b, c, d], "signature found"),
        line(leaf::VERSION, [pv_abi::VERSION, 0, 0, 0], "ABI version"),
        line(leaf::EXTENSIONS, [bitmap, 0, 0, 0], "extensions present"),
    )
}

fn recommendations() -> String {
    let meaning = |flag: Recommendations| match flag {
        Recommendations::CPUID_MIRROR => "read CPUID from the mirror in the read-only half",
        Recommendations::HALT => "idle by `sched.halt_until`",
        Recommendations::TIMER => "arm the timer by the shared deadline and `timer.arm`",
        Recommendations::EOI => "signal end of interrupt by the flag in the shared half",
        Recommendations::CONSOLE => "write to the console by call or ring",
        Recommendations::CLOCK => "read the time from the shared clock instead of a device",
        Recommendations::CR_SHADOW => {
            "keep shadows of CR0 and CR4 and drop writes that change nothing"
        }
        Recommendations::SYS => "reset and shut down by `sys`",
        Recommendations::SMP => "reach other vCPUs by `smp`",
        Recommendations::TSC_EXITS => "RDTSC itself exits: avoid it where an older time will do",
        _ => panic!("the specification has no words for {flag:?}"),
    };
    table(
        &["bit", "name", "the guest should"],
        Recommendations::all().iter_names().map(|(name, flag)| {
            let bit = flag.bits().trailing_zeros();
            vec![bit.to_string(), format!("`{name}`"), meaning(flag).to_string()]
        }),
    )
}

fn selectors() -> String {
    let what = |class| match class {
        Class::ExitCount => ("exits", "exit reason, 0 to 63"),
        Class::ExitTicks => ("ticks from exit to entry", "exit reason, 0 to 63"),
        Class::CallCount => ("calls", "call slot, 0 to 127"),
        Class::CallTicks => ("ticks from exit to entry", "call slot, 0 to 127"),
        Class::Vmcs => ("accesses to the VMCS", "0: VMREADs, 1: VMWRITEs"),
    };
    let classes = (0..).map_while(Class::from_number);
    table(
        &["class", "name", "counts", "index", "selector of index 1"],
        classes.map(|class| {
            let (counts, index) = what(class);
            vec![
                (class as u32).to_string(),
                format!("`{class:?}`"),
                counts.to_string(),
                index.to_string(),
                format!("`{:#x}`", class.selector(1)),
            ]
        }),
    )
}

fn structure(structure: &Structure) -> String {
    let rows = structure.fields.iter().map(|f| {
        vec![
            format!("{:#06x}", f.offset),
            f.size.to_string(),
            format!("`{}`", f.name),
            format!("`{}`", f.ty),
            prose(f.doc),
        ]
    });
    let head = format!("`{}`, {} bytes:\n\n", structure.name, structure.size);
    head + &table(&["offset", "size", "field", "type", "meaning"], rows)
}
