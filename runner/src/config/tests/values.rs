use std::ffi::OsStr;
use std::time::Duration;

use super::super::values::*;
use super::super::{AccelChoice, Disk, DiskFormat, JailChoice, Mount, Share};

#[test]
fn a_memory_size_is_in_mib_unless_a_letter_says_otherwise() {
    for (text, wanted) in [
        ("512", 512 << 20),
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("2G", 2 << 30),
        ("2g", 2 << 30),
        ("1T", 1 << 40),
        ("0128M", 128 << 20),
        ("17592186044415", 17_592_186_044_415 << 20),
    ] {
        assert_eq!(memory(text), Ok(wanted), "{text}");
    }
}

#[test]
fn what_is_no_memory_size_is_refused_with_a_remedy() {
    for (text, wanted) in [
        ("0", "leaves the guest no memory"),
        ("0G", "leaves the guest no memory"),
        ("-1", "is not a memory size; write whole MiB or GiB"),
        ("-1G", "is not a memory size; write whole MiB or GiB"),
        ("", "is not a memory size; write whole MiB or GiB"),
        ("G", "is not a memory size; write whole MiB or GiB"),
        ("1.5G", "is not a memory size; write whole MiB or GiB"),
        ("+5", "is not a memory size; write whole MiB or GiB"),
        (" 5", "is not a memory size; write whole MiB or GiB"),
        ("5 ", "is not a memory size; write whole MiB or GiB"),
        ("٣", "is not a memory size; write whole MiB or GiB"),
        ("5é", "is not a memory size; write whole MiB or GiB"),
        ("512MB", "is not a memory size; write 512M"),
        ("2GiB", "is not a memory size; write 2G"),
        ("65536K", "is in KiB; memory is given in MiB"),
        ("17592186044416", "is more than any host has"),
        ("99999999999999999999G", "is more than any host has"),
        ("16777216T", "is more than any host has"),
    ] {
        let why = memory(text).expect_err(text);
        assert!(why.starts_with(wanted), "{text}: {why}");
    }
}

#[test]
fn a_number_of_cpus_is_at_least_1_and_at_most_65535() {
    assert_eq!(cpus("1"), Ok(1));
    assert_eq!(cpus("65535"), Ok(MAX_CPUS));
    assert!(cpus("0").expect_err("0").starts_with("leaves the guest no CPU"));
    for text in ["65536", "-1", "", "two", "1.0", "99999999999999999999"] {
        let why = cpus(text).expect_err(text);
        assert!(why.contains("from 1 to 65535"), "{text}: {why}");
    }
}

#[test]
fn a_time_is_in_seconds_unless_a_unit_says_otherwise() {
    for (text, wanted) in
        [("5", 5_000), ("5s", 5_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000)]
    {
        assert_eq!(duration(text), Ok(Duration::from_millis(wanted)), "{text}");
    }
    for (text, wanted) in [
        ("0", "ends the run before it starts"),
        ("0ms", "ends the run before it starts"),
        ("", "is not a time"),
        ("s", "is not a time"),
        ("1.5", "is not a time"),
        ("-1", "is not a time"),
        ("5 s", "is not a time"),
        ("5d", "is not a time"),
        ("99999999999999999", "is too long"),
        ("99999999999999999999", "is too long"),
    ] {
        let why = duration(text).expect_err(text);
        assert!(why.starts_with(wanted), "{text}: {why}");
    }
}

#[test]
fn an_accelerator_is_known_by_ops_words_and_by_its_name() {
    for (text, wanted) in [
        ("auto", AccelChoice::Auto),
        ("true", AccelChoice::Auto),
        ("kvm", AccelChoice::Kvm),
        ("hvf", AccelChoice::Hvf),
        ("off", AccelChoice::Off),
        ("false", AccelChoice::Off),
    ] {
        assert_eq!(accel(text), Ok(wanted), "{text}");
    }
    for choice in [AccelChoice::Auto, AccelChoice::Kvm, AccelChoice::Hvf, AccelChoice::Off] {
        assert_eq!(accel(&choice.to_string()), Ok(choice));
    }
    assert!(accel("KVM").is_err() && accel("").is_err() && accel("tcg").is_err());
}

#[test]
fn configs_know_accelerators_and_jails_by_their_names_alone() {
    assert_eq!(accelerator("off"), Ok(AccelChoice::Off));
    assert_eq!(jail("strict"), Ok(JailChoice::Strict));
    for word in ["true", "false", "", "On"] {
        assert!(accelerator(word).unwrap_err().ends_with("auto, kvm, hvf or off"), "{word}");
        assert!(jail(word).unwrap_err().ends_with("on, strict or off"), "{word}");
    }
}

#[test]
fn a_disk_may_end_in_ro_or_rw_and_its_path_may_have_commas() {
    let wanted = |path: &str, read_only, format| Ok(Disk { path: path.into(), read_only, format });
    for (text, path, read_only) in [
        ("d.raw", "d.raw", false),
        ("d.raw,ro", "d.raw", true),
        ("d.raw,rw", "d.raw", false),
        ("a,b", "a,b", false),
        ("a,b,ro", "a,b", true),
        ("a,ro,rw", "a,ro", false),
        ("a,ro,ro", "a,ro", true),
    ] {
        assert_eq!(disk(OsStr::new(text)), wanted(path, read_only, DiskFormat::Raw), "{text}");
    }
    for (text, path, read_only, format) in [
        ("d,format=raw", "d", false, DiskFormat::Raw),
        ("d,format=qcow2", "d", false, DiskFormat::Qcow2),
        ("d,ro,format=qcow2", "d", true, DiskFormat::Qcow2),
        ("d,format=qcow2,ro", "d", true, DiskFormat::Qcow2),
        ("d,format=qcow2,rw,format=raw", "d,format=qcow2", false, DiskFormat::Raw),
    ] {
        assert_eq!(disk(OsStr::new(text)), wanted(path, read_only, format), "{text}");
    }
    // A name's ending says nothing.
    let named = wanted("d.qcow2", false, DiskFormat::Raw);
    assert_eq!(disk(OsStr::new("d.qcow2")), named);
    for text in ["d,format=", "d,format=vmdk", "d,ro,format=QCOW2"] {
        let why = disk(OsStr::new(text)).unwrap_err();
        assert!(why.starts_with("has a format that is not raw or qcow2; make a raw"), "{why}");
    }
    for text in ["", ",ro", ",rw", ",format=raw"] {
        assert!(disk(OsStr::new(text)).is_err(), "{text}");
    }
}

#[test]
fn a_mount_is_a_volume_and_a_place_as_in_ops() {
    let wanted = |volume: &str, path: &str, read_only| {
        Ok(Mount { volume: volume.into(), path: path.into(), read_only })
    };
    assert_eq!(mount("data:/data"), wanted("data", "/data", false));
    assert_eq!(mount("%1:/a.b=c"), wanted("%1", "/a.b=c", false));
    assert_eq!(mount("data:/data:ro"), wanted("data", "/data", true));
    assert_eq!(mount("a:b:/data:ro"), wanted("a:b", "/data", true));
    assert_eq!(mount("./a:/data"), wanted("./a", "/data", false));
    for text in ["", "data", ":/data", "data:", "data:data", "data:/", "a:b:data", "data:/:ro"] {
        assert!(mount(text).is_err(), "{text}");
    }
}

#[test]
fn a_variable_is_cut_at_its_first_equals_sign() {
    let pair = |key: &str, value: &str| Ok((key.into(), value.into()));
    assert_eq!(env("A=1"), pair("A", "1"));
    assert_eq!(env("A="), pair("A", ""));
    assert_eq!(env("A=b=c"), pair("A", "b=c"));
    for text in ["", "A", "=1", "="] {
        assert!(env(text).is_err(), "{text}");
    }
}

#[test]
fn a_network_mask_has_no_hole() {
    for text in ["255.255.255.0", "255.255.255.255", "0.0.0.0", "128.0.0.0"] {
        assert!(netmask(text).is_ok(), "{text}");
    }
    for text in ["255.0.255.0", "0.0.0.255", "24", "", "255.255.255"] {
        assert!(netmask(text).is_err(), "{text}");
    }
}

#[test]
fn a_share_is_a_folder_and_what_it_is_called_and_whether_it_is_only_read() {
    let wanted = |path: &str, tag: Option<&str>, read_only| {
        Ok(Share { path: path.into(), tag: tag.map(str::to_owned), read_only })
    };
    for (text, path, tag, read_only) in [
        ("data", "data", None, false),
        ("data:ro", "data", None, true),
        ("data:d", "data", Some("d"), false),
        ("/srv/a b:d.1_-:ro", "/srv/a b", Some("d.1_-"), true),
        ("data:ro:rw", "data", Some("ro"), false),
        ("a:b/", "a:b/", None, false),
        ("a:b/:t", "a:b/", Some("t"), false),
        ("a:/b", "a:/b", None, false),
    ] {
        assert_eq!(share(OsStr::new(text)), wanted(path, tag, read_only), "{text}");
    }
    for text in ["", ":t", ":ro", "data:", "data:a b", "data:a,b", "data::ro"] {
        let refusal = share(OsStr::new(text)).unwrap_err();
        assert!(refusal.contains("write "), "{text}: {refusal}");
    }
    assert!(tag(&"t".repeat(31)).is_ok() && tag(&"t".repeat(32)).is_err());
}

#[test]
fn a_socket_device_has_a_path_and_perhaps_an_address_of_a_guests() {
    let read = |text: &str| vsock(text.as_ref()).map(|vsock| (vsock.path, vsock.cid));
    assert_eq!(read("v.sock"), Ok(("v.sock".into(), 3)));
    assert_eq!(read("/run/a,b,cid=77"), Ok(("/run/a,b".into(), 77)));
    assert_eq!(read("v,cid=4294967294"), Ok(("v".into(), 4_294_967_294)));
    for cid in ["0", "1", "2", "4294967295", "4294967296", "x", ""] {
        let why = read(&format!("v,cid={cid}")).unwrap_err();
        assert!(why.contains("from 3 to 4294967294"), "{why}");
    }
    for path in ["", ",cid=5", "folder/"] {
        assert!(read(path).unwrap_err().contains("names no socket"), "{path}");
    }
}
