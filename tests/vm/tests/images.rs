//! Disk images as OPS writes them: inspected, and looked for.

use super::support::files::{Folder, OPS_IMAGES, ops_image};
use super::support::program::runner;

#[test]
fn inspect_says_format_entry_and_what_the_image_runs() {
    let folder = Folder::new();
    for name in OPS_IMAGES {
        let finished = runner(["inspect"]).arg(folder.file(name, ops_image(name))).ends_with(0);
        let text = finished.quiet_text();
        let layout = if name.ends_with("uefi") { "UEFI" } else { "BIOS" };
        let version = if name.contains("v4") { "v4" } else { "v5" };
        for line in [
            &*format!("format: OPS disk image ({layout}, TFS {version})"),
            "architecture: x86_64",
            "entry: 0x200000",
            "segment 0: 0x200000-0x200046",
            "program: /hello",
            "arguments: hello 7",
            "environment: USER=root",
            "environment: PWD=/",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {finished}");
        }
    }
}

#[test]
fn inspect_needs_no_accelerator_and_names_the_builtin_guest() {
    let finished = runner(["inspect", "hello"]).ends_with(0);
    assert!(finished.quiet_text().starts_with("image: hello (built in)\nformat: ELF64 kernel\n"));
}

#[test]
fn a_name_that_is_no_image_is_answered_with_the_nearest_and_where_it_was_looked_for() {
    let home = Folder::new();
    home.file(".ops/images/server", ops_image("tfs-v5-go-bios"));
    let why = runner(["sever"]).within(home.path()).env("HOME", home.path()).refused();
    assert!(why.contains("no image \"sever\""), "{why}");
    assert!(why.contains(".ops/images/sever.img"), "{why}");
    assert!(why.contains("did you mean \"server\"?"), "{why}");
}
