mod both;
mod icr;
mod model;
mod modes;
mod registers;
mod timer;

use std::boxed::Box;

use super::*;

const OWN_ID: u32 = 3;

fn config() -> Config {
    Config {
        id: OWN_ID,
        bootstrap: true,
        physical_bits: 40,
        timer: TimerRatio::ONE,
        shortest_period: 10,
    }
}

fn apic_with(config: Config) -> VirtualApic<Box<ApicPage>> {
    VirtualApic::new(Box::new(ApicPage::new()), config)
}

/// In xAPIC mode and enabled by software.
fn xapic() -> VirtualApic<Box<ApicPage>> {
    let mut apic = apic_with(config());
    assert_eq!(apic.mmio_write(offset::SVR, 0x1ff, 0), Effect::Mode);
    apic
}

/// In x2APIC mode and enabled by software.
fn x2apic() -> VirtualApic<Box<ApicPage>> {
    let mut apic = xapic();
    assert_eq!(apic.write_base(apic.base() | 1 << 10), Ok(Effect::Mode));
    apic
}
