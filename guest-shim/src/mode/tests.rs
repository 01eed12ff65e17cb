use super::*;
use crate::detect::Other;

fn paravane(recommendations: Rec) -> Paravane {
    Paravane {
        base: 0x4000_0000,
        version: pv_abi::VERSION,
        extensions: call::EXTENSIONS.iter().fold(0, |bits, e| bits | 1 << e.number),
        recommendations,
        vcpu: 0,
        vcpus: 1,
        console_max: 4096,
        tsc_hz: 50_000_000,
        apic_hz: 50_000_000,
    }
}

#[test]
fn the_boot_option_is_a_word_of_its_own_and_the_last_one_counts() {
    assert_eq!(Mode::from_command_line(""), Ok(Mode::Auto));
    assert_eq!(Mode::from_command_line("quiet shim=pv end=reset"), Ok(Mode::Paravirtual));
    assert_eq!(Mode::from_command_line("shim=pv  shim=native"), Ok(Mode::Native));
    assert_eq!(Mode::from_command_line("noshim=pv xshim=native"), Ok(Mode::Auto));
    assert_eq!(Mode::from_command_line("shim=auto"), Ok(Mode::Auto));
    assert_eq!(Mode::from_command_line("shim=PV"), Err(UnknownMode("PV")));
    assert_eq!(Mode::from_command_line("shim="), Err(UnknownMode("")));
}

#[test]
fn auto_takes_what_is_recommended_and_no_more() {
    let found = Found::Paravane(paravane(Rec::CPUID_MIRROR | Rec::SYS));
    assert_eq!(
        select(&found, Mode::Auto),
        Ok(Operations::CALL | Operations::CPUID | Operations::SYS)
    );
}

#[test]
fn what_is_recommended_without_its_extension_stays_native() {
    let mut paravane = paravane(Rec::all());
    paravane.extensions = 1 << call::sys::EXTENSION;
    assert_eq!(
        select(&Found::Paravane(paravane), Mode::Auto),
        Ok(Operations::CALL | Operations::CR_SHADOW | Operations::SYS)
    );
}

#[test]
fn native_keeps_only_the_calls() {
    let found = Found::Paravane(paravane(Rec::all()));
    assert_eq!(select(&found, Mode::Native), Ok(Operations::CALL));
}

#[test]
fn forced_takes_all_that_is_offered_but_does_not_invent_facts() {
    let found = Found::Paravane(paravane(Rec::empty()));
    let all = select(&found, Mode::Paravirtual).unwrap();
    let native = Operations::XAPIC | Operations::ONE_SHOT;
    assert_eq!(all, Operations::all() - native - Operations::TSC_EXITS);
}

#[test]
fn elsewhere_everything_stays_native_unless_forced_which_fails() {
    for found in [Found::BareMetal, Found::Other(Other::Kvm)] {
        assert_eq!(select(&found, Mode::Auto), Ok(Operations::empty()));
        assert_eq!(select(&found, Mode::Native), Ok(Operations::empty()));
        assert_eq!(select(&found, Mode::Paravirtual), Err(Unavailable::NotParavane(found)));
    }
}

#[test]
fn another_version_of_the_abi_is_left_alone() {
    let found = Found::Paravane(Paravane { version: 2, ..paravane(Rec::all()) });
    assert_eq!(select(&found, Mode::Auto), Ok(Operations::empty()));
    assert_eq!(select(&found, Mode::Paravirtual), Err(Unavailable::Version { theirs: 2 }));
}
