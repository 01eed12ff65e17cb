//! The C header, rendered from the crate.

use std::fmt::Write;

use pv_abi::area::{self, CALL_SLOTS, CALLS_PER_EXTENSION, CPUID_ENTRIES};
use pv_abi::call::{EXTENSIONS, grant, halt};
use pv_abi::cpuid::{self, Recommendations, leaf};
use pv_abi::event;
use pv_abi::exit::{self, Reason};
use pv_abi::stat::{self, Class};
use pv_abi::{Field, Status};

use crate::tables::{STRUCTURES, Structure, call_name};

const HEAD: &str = "\
/* The Paravane hypercall ABI. Generated from the Rust crate pv-abi: do not edit.
 * SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef PARAVANE_H
#define PARAVANE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define PV_ASSERT(condition) static_assert(condition, #condition)
#else
#define PV_ASSERT(condition) _Static_assert(condition, #condition)
#endif
";

/// The whole header.
pub fn render() -> String {
    let mut out = String::from(HEAD);
    section(
        &mut out,
        "ABI version and discovery by CPUID",
        &[
            ("PV_VERSION".into(), hex(pv_abi::VERSION.into())),
            ("PV_CPUID_FIRST_BASE".into(), hex(cpuid::FIRST_BASE.into())),
            ("PV_CPUID_BASE_STEP".into(), hex(cpuid::BASE_STEP.into())),
            ("PV_CPUID_BASES".into(), cpuid::BASES.to_string()),
            ("PV_CPUID_SIGNATURE_EBX".into(), hex(cpuid::signature_registers()[0].into())),
            ("PV_CPUID_SIGNATURE_ECX".into(), hex(cpuid::signature_registers()[1].into())),
            ("PV_CPUID_SIGNATURE_EDX".into(), hex(cpuid::signature_registers()[2].into())),
            ("PV_LEAF_SIGNATURE".into(), leaf::SIGNATURE.to_string()),
            ("PV_LEAF_VERSION".into(), leaf::VERSION.to_string()),
            ("PV_LEAF_EXTENSIONS".into(), leaf::EXTENSIONS.to_string()),
            ("PV_LEAF_RECOMMENDATIONS".into(), leaf::RECOMMENDATIONS.to_string()),
            ("PV_LEAF_LIMITS".into(), leaf::LIMITS.to_string()),
            ("PV_LEAF_FREQUENCY".into(), leaf::FREQUENCY.to_string()),
        ],
    );
    section(
        &mut out,
        "Recommendations: masks",
        &pairs(Recommendations::all().iter_names(), |(name, flag)| {
            (format!("PV_RECOMMEND_{name}"), hex(flag.bits().into()))
        }),
    );
    section(
        &mut out,
        "Status, in RAX",
        &pairs(Status::ALL, |&s| (format!("PV_{}", s.name()), format!("{}", u64::from(s)))),
    );
    for e in EXTENSIONS {
        let name = e.name.to_ascii_uppercase();
        let mut defines = vec![
            (format!("PV_EXT_{name}"), hex(e.number.into())),
            (format!("PV_EXT_{name}_VERSION"), e.version.to_string()),
        ];
        defines.extend(pairs(e.calls, |c| {
            (format!("PV_{name}_{}", call_name(c).to_ascii_uppercase()), hex(c.number.0))
        }));
        section(&mut out, &format!("Extension {}: its number, its calls in RAX", e.name), &defines);
    }
    section(
        &mut out,
        "Arguments",
        &[
            ("PV_HALT_ENABLE_INTERRUPTS".into(), hex(halt::ENABLE_INTERRUPTS)),
            ("PV_EVENT_WAIT_AFTER".into(), hex(event::WAIT)),
            ("PV_GRANT_SLOTS".into(), grant::SLOTS.to_string()),
            ("PV_GRANT_PLACES".into(), grant::PLACES.to_string()),
            ("PV_GRANT_READ".into(), grant::READ.to_string()),
            ("PV_GRANT_READ_WRITE".into(), grant::READ_WRITE.to_string()),
            ("PV_MARK_BEGIN".into(), stat::BEGIN.to_string()),
            ("PV_MARK_END".into(), stat::END.to_string()),
        ],
    );
    section(
        &mut out,
        "Classes of stat.read, ready to be ORed with an index",
        &pairs((0..).map_while(Class::from_number), |class| {
            (format!("PV_STAT_{}", upper_snake(&format!("{class:?}"))), hex(class.selector(0)))
        }),
    );
    section(
        &mut out,
        "Neutral exit reasons",
        &pairs(Reason::ALL, |&r| {
            let name = r.name().replace('-', "_").to_ascii_uppercase();
            (format!("PV_EXIT_{name}"), (r as u8).to_string())
        }),
    );
    section(
        &mut out,
        "Sizes",
        &[
            ("PV_SHARED_SIZE".into(), area::SHARED_SIZE.to_string()),
            ("PV_INFO_SIZE".into(), area::INFO_SIZE.to_string()),
            ("PV_EXIT_SLOTS".into(), exit::SLOTS.to_string()),
            ("PV_CALL_SLOTS".into(), CALL_SLOTS.to_string()),
            ("PV_CALLS_PER_EXTENSION".into(), CALLS_PER_EXTENSION.to_string()),
            ("PV_PORTS".into(), event::PORTS.to_string()),
            ("PV_CPUID_ENTRIES".into(), CPUID_ENTRIES.to_string()),
            ("PV_CPUID_SUBLEAF_MATTERS".into(), hex(area::CPUID_SUBLEAF_MATTERS.into())),
            ("PV_RING_CAPACITY".into(), pv_abi::ring::CAPACITY.to_string()),
        ],
    );
    for s in STRUCTURES {
        structure(&mut out, s);
    }
    out.push_str("\n#endif\n");
    out
}

fn pairs<T>(
    items: impl IntoIterator<Item = T>,
    each: impl Fn(T) -> (String, String),
) -> Vec<(String, String)> {
    items.into_iter().map(each).collect()
}

fn section(out: &mut String, title: &str, defines: &[(String, String)]) {
    writeln!(out, "\n/* {title}. */").expect("strings take everything");
    for (name, value) in defines {
        writeln!(out, "#define {name} UINT64_C({value})").expect("strings take everything");
    }
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

/// `VcpuInfo` as `vcpu_info`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.char_indices() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn upper_snake(name: &str) -> String {
    snake(name).to_ascii_uppercase()
}

fn structure(out: &mut String, s: &Structure) {
    let tag = format!("struct pv_{}", snake(s.name));
    let mut text = format!("\n{tag} {{\n");
    let mut asserts = format!("PV_ASSERT(sizeof({tag}) == {});\n", s.size);
    for f in s.fields {
        text += &format!("    {};\n", declaration(f));
        asserts += &format!("PV_ASSERT(offsetof({tag}, {}) == {});\n", f.name, f.offset);
    }
    out.push_str(&text);
    out.push_str("};\n");
    out.push_str(&asserts);
}

/// A field as C declares it: `[u32; 7]` becomes `uint32_t name[7]`.
fn declaration(field: &Field) -> String {
    let (element, array) = match field.ty.strip_prefix('[').and_then(|t| t.split_once(';')) {
        Some((element, _)) => (element.trim(), true),
        None => (field.ty, false),
    };
    let (ty, size) = match element {
        "u8" => ("uint8_t".to_string(), 1),
        "u32" => ("uint32_t".to_string(), 4),
        "u64" => ("uint64_t".to_string(), 8),
        name => {
            let inner = STRUCTURES.iter().find(|s| s.name == name);
            let inner = inner.unwrap_or_else(|| panic!("no C type for {name}"));
            (format!("struct pv_{}", snake(name)), inner.size)
        }
    };
    let count = if array { format!("[{}]", field.size / size) } else { String::new() };
    format!("{ty} {}{count}", field.name)
}
