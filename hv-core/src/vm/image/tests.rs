use std::string::ToString;

use super::testing::{load, memory};
use super::*;

#[test]
fn what_is_no_kernel_is_refused() {
    for image in [&b""[..], b"MZ", &[0; 4096]] {
        assert_eq!(load(image, "", &memory(2 << 20)), Err(ImageError::Unknown));
    }
    let error = ImageError::NotA(Kind::Linux32).to_string();
    assert!(error.contains("linux32") && error.contains("auto"), "{error}");
}
