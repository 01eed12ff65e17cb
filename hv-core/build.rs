//! Linker arguments of the bare-metal image.

fn main() {
    println!("cargo::rerun-if-changed=link.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for argument in [
        format!("-T{dir}/link.ld").as_str(),
        // Without this script the image links and every log frame is malformed.
        "-Tdefmt.x",
        "--no-dynamic-linker",
        "-zmax-page-size=4096",
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
