use super::*;
use hv_core::host::link::{Channel, Header};
use hv_core::host::report::{Cause, End, Registers};
use std::io::Seek;
use std::sync::mpsc::channel;
use zerocopy::IntoBytes;

fn frame(vm: u8, channel: Channel, payload: &[u8]) -> Vec<u8> {
    let header = Header::new(vm, channel, payload.len() as u16);
    [header.as_bytes(), payload].concat()
}

fn run(bytes: &[u8], images: &Images) -> (Vec<Event>, String) {
    let mut file = tempfile::tempfile().unwrap();
    let (sender, receiver) = channel();
    pump(bytes, images, file.try_clone().unwrap(), &sender).unwrap();
    drop(sender);
    file.rewind().unwrap();
    let mut log = String::new();
    file.read_to_string(&mut log).unwrap();
    (receiver.iter().collect(), log)
}

#[test]
fn a_session_becomes_events_and_a_readable_log() {
    let images = Images {
        hypervisor: Some(std::env::current_exe().unwrap()),
        vms: vec![("one".into(), "/nowhere".into())],
    };
    let end = End {
        cause: Cause::Shutdown as u32,
        reason: 0,
        vendor: 1,
        vendor_code: 0,
        vendor_detail: [0; 2],
        code: 3,
        address: 0,
        exits: 9,
        registers: Registers::default(),
    };
    let bytes = [
        b"firmware\nbanner".to_vec(),
        frame(0, Channel::Console, b"hel"),
        frame(0, Channel::Console, b"lo\nx"),
        frame(0, Channel::Mark, b"short"),
        frame(0, Channel::End, &[end.as_bytes(), b"bye"].concat()),
        frame(HYPERVISOR, Channel::Done, b""),
    ]
    .concat();
    let (events, log) = run(&bytes, &images);
    assert_eq!(events[0], Event::Machine("firmware".into()));
    assert_eq!(events[2], Event::Console { vm: 0, bytes: b"lo\nx".to_vec() });
    assert!(matches!(&events[3], Event::Malformed(_)));
    let Event::End { text, .. } = &events[4] else { panic!("{events:?}") };
    assert!(text.contains("VM one: shut down, code 3: bye"), "{text}");
    assert_eq!(events[5], Event::Done);
    assert_eq!(events[6], Event::Machine("banner".into()), "an open line is not lost");
    for line in ["machine | firmware", "one | hello", "one | x", "end | VM one", "| [done]"] {
        assert!(log.contains(line), "{line} is not in\n{log}");
    }
}

#[test]
fn a_bare_guest_is_all_console() {
    let (events, log) = run(b"hello\n", &Images::default());
    assert_eq!(events, [Event::Console { vm: 0, bytes: b"hello\n".to_vec() }]);
    assert!(log.contains("vm0 | hello"), "{log}");
}
