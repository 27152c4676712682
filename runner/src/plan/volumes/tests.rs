use super::*;
use crate::config::{parse_str, settle};
use crate::image::Access;
use crate::image::testing::{ElfFile, Node, boot_filesystem, disk, first_extension, link, log};
use crate::io::lock::{DiskLock, Mode};
use crate::machine::map::Board;
use crate::machine::slot::VirtioBus;

/// UUID of every volume that is made here, in its file and in its name.
const UUID: &str = "612d5555-4944-2d6f-662d-31362d627974";

/// A folder of volumes, one of each of these names.
fn volumes(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let bytes = log(5, 4, &[Node::Tuple(vec![("children", Node::Tuple(vec![]))])]);
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn settings(line: &[&str]) -> Settings {
    let command = crate::cli::parse(["runner", "web.img"].iter().chain(line).copied());
    let Ok(crate::cli::Command::Run(options)) = command else { panic!("{line:?}") };
    settle(*options, &parse_str("empty.json", "{}").unwrap()).unwrap()
}

/// The disks of a run beside its image, by their files' names and whether they are read-only; and which
/// of them the mounts are.
type Attached = (Vec<(String, bool)>, Vec<usize>);

fn named(folder: &Path, line: &[&str]) -> Result<Attached, String> {
    let settings = settings(line);
    let mut volumes = Volumes::of(&settings);
    let found = (settings.mounts.iter()).map(|mount| {
        let found = volumes.named(mount, folder)?;
        found.ok_or_else(|| not_found(mount, folder))
    });
    let found: Result<_, _> = found.collect();
    let found = found.map_err(|error: Error| error.to_string())?;
    let name = |disk: &Disk| disk.path.file_name().unwrap().to_str().unwrap().to_owned();
    let disks = volumes.disks.iter().map(|disk| (name(disk), disk.read_only));
    Ok((disks.collect(), found))
}

#[test]
fn a_volume_is_found_by_its_label_or_its_uuid_and_stands_behind_the_other_disks() {
    let folder = volumes(&["data:1a.raw", "logs:2b.raw", "notes.raw", "data:3c.img", "x"]);
    std::fs::create_dir(folder.path().join("data:4d.raw")).unwrap();
    let line = ["--disk", "d.raw", "--mounts=data:/d", "--mounts=2b:/l:ro"];
    let disks = [("d.raw", false), ("logs:2b.raw", true), ("data:1a.raw", false)];
    let disks = disks.map(|(name, read_only)| (name.to_owned(), read_only)).to_vec();
    // Mounts are in the order of their names.
    assert_eq!(named(folder.path(), &line), Ok((disks, vec![1, 2])));
}

#[test]
fn a_volume_that_is_attached_by_its_path_is_attached_once() {
    let folder = volumes(&["data:1a.raw"]);
    let path = folder.path().join("data:1a.raw");
    let line = ["--disk", path.to_str().unwrap(), "--mounts=data:/d"];
    let disks = vec![("data:1a.raw".to_owned(), false)];
    assert_eq!(named(folder.path(), &line), Ok((disks, vec![0])));
}

#[test]
fn a_volume_that_is_not_there_or_there_twice_is_refused_with_those_that_are() {
    let folder = volumes(&["data:1a.raw", "data:2b.raw", "logs:3c.raw"]);
    let refusal = |line: &str| named(folder.path(), &[line]).unwrap_err();
    let place = folder.path().display();
    assert_eq!(
        refusal("--mounts=dta:/d"),
        format!(
            "mount dta: no volume of that label or UUID in {place}, there are data:1a.raw, \
             data:2b.raw, logs:3c.raw, and no folder of the host's: make a volume with `ops volume \
             create`, or attach a file with --disk"
        )
    );
    assert_eq!(
        refusal("--mounts=data:/d"),
        format!(
            "mount data: there are 2 volumes of that name in {place}: data:1a.raw, data:2b.raw; name \
             one by its UUID, the part behind the colon"
        )
    );
    let nowhere = named(&folder.path().join("none"), &["--mounts=a:/a"]).unwrap_err();
    assert!(nowhere.contains("/none, there is none, and no folder"), "{nowhere}");
}

#[test]
fn a_label_may_have_colons() {
    let folder = volumes(&["a:b:1a.raw", "a:2b.raw"]);
    let found = |line: &str| named(folder.path(), &[line]).map(|(disks, _)| disks[0].0.clone());
    for (line, name) in [
        ("--mounts=a:b:/d", "a:b:1a.raw"),
        ("--mounts=1a:/d", "a:b:1a.raw"),
        ("--mounts=a:b:1a:/d", "a:b:1a.raw"),
        ("--mounts=a:/d", "a:2b.raw"),
    ] {
        assert_eq!(found(line).as_deref(), Ok(name), "{line}");
    }
    assert!(found("--mounts=b:/d").unwrap_err().contains("no volume of that label or UUID"));
}

#[test]
fn folders_of_the_host_are_shared_by_the_numbers_that_the_image_has_for_them() {
    let host = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let path = host.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    let (a, b) = (folder("a"), folder("b"));
    let told = |line: &[&str], image: &Image| {
        // Sorted as OPS does, not as they are written.
        let mounts = [format!("--mounts={b}:/data"), format!("--mounts={a}/../a:/var/log:ro")];
        let line: Vec<&str> =
            line.iter().copied().chain(mounts.iter().map(String::as_str)).collect();
        let settings = settings(&line);
        let found = find(&settings, image).unwrap();
        let tags = (0..).zip(&found.shares).map(|(index, share)| tag(index, share));
        let tags: Vec<_> = tags.collect();
        let told = found.told(image, &[]).unwrap().into_iter();
        (tags.join(" "), told.map(|(name, at)| format!("{name} {at}")).collect::<Vec<_>>())
    };
    let wanted = |tags: &str, told: &[&str]| {
        (tags.to_owned(), told.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
    };
    let none = image(vec![]);
    assert_eq!(told(&[], &none), wanted("0 1", &["%0 /var/log:ro", "%1 /data"]));
    // One that OPS built with the same Mounts, and with others.
    let both = vec![("%0", Node::Text("/var/log:ro")), ("%1", Node::Text("/data"))];
    assert_eq!(told(&[], &image(both)), wanted("0 1", &[]));
    let first = image(vec![("%0", Node::Text("/data"))]);
    assert_eq!(told(&[], &first), wanted("1 0", &["%1 /var/log:ro"]));
    // Beside shares, by the numbers that are left, and as one of them.
    assert_eq!(told(&["--share=g"], &none), wanted("1 0 2", &["%0 /var/log:ro", "%2 /data"]));
    let share = format!("--share={b}:5:ro");
    assert_eq!(told(&[&share], &none), wanted("5 0", &["%0 /var/log:ro", "%5 /data:ro"]));
    let again = settings(&[&format!("--mounts={a}:/data"), &format!("--mounts={a}/:/var")]);
    let refused = find(&again, &none).err().unwrap().to_string();
    assert!(refused.contains("are one folder (/var): leave one of them out"), "{refused}");
    assert_eq!(cleaned("./x//y/../z/"), "x/z");
    assert_eq!((cleaned("/../a"), cleaned("../../a")), ("/a".into(), "../../a".into()));
}

#[test]
fn of_very_many_volumes_a_few_are_named() {
    let names: Vec<String> = (10..40).map(|number| format!("v:{number}.raw")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let folder = volumes(&names);
    let error = named(folder.path(), &["--mounts=w:/d"]).unwrap_err();
    assert!(error.contains("v:29.raw and 10 more, and no folder"), "{error}");
}

/// An x86_64 image that mounts its volumes `data` and this UUID, and has folders for more.
fn image(mounts: Vec<(&'static str, Node)>) -> Image {
    let mut kernel = ElfFile::new(0x20_0000);
    kernel.load(0x20_0000, &[0; 16], 16);
    let boot = boot_filesystem(5, &kernel.build());
    let folder = || Node::Tuple(vec![("children", Node::Tuple(vec![]))]);
    let var = Node::Tuple(vec![("children", Node::Tuple(vec![("log", folder())]))]);
    let elsewhere = Node::Tuple(vec![("linktarget", Node::Text("/var"))]);
    let file = Node::Tuple(vec![("filelength", Node::Number(0))]);
    let children = vec![("data", folder()), ("var", var), ("to", elsewhere), ("file", file)];
    let manifest = vec![
        ("program", Node::Text("/web")),
        ("children", Node::Tuple(children)),
        ("mounts", Node::Tuple(mounts)),
    ];
    let root = log(5, 4, &[Node::Tuple(manifest)]);
    let sectors = |bytes: &[u8]| u32::try_from(bytes.len() / 512).unwrap();
    let behind = 2 + sectors(&boot);
    let entries = [(0x83, 2, sectors(&boot)), (0x83, behind, sectors(&root))];
    let bytes = disk(&entries, &[boot, root].concat());
    Image::recognise(Source::from_bytes("web.img", &bytes)).unwrap()
}

/// The run's disks: the image's place is taken by the first of them.
fn plans(paths: &[PathBuf], read_only: bool) -> Vec<DiskPlan> {
    let slots = Board::of(crate::image::Arch::X86_64).virtio.on(VirtioBus::Mmio);
    let plan = |(path, slot): (&PathBuf, _)| {
        let source = Source::open(path, Access::Read).unwrap();
        let file = source.file().unwrap().clone();
        let lock = DiskLock::take(&file, "d", Mode::Read).unwrap();
        let (id, format, size) = (String::new(), DiskFormat::Raw, source.len());
        let (scratch, patch) = (None, None);
        DiskPlan { id, source, file, format, size, read_only, scratch, patch, slot, lock }
    };
    paths.iter().zip(slots).map(plan).collect()
}

/// What the guest is told of one volume, which is `%1`.
fn told(image: &Image, volume: &[u8], at: &str) -> Result<Vec<(String, String)>, String> {
    let folder = volumes(&["image"]);
    let path = folder.path().join("volume");
    std::fs::write(&path, volume).unwrap();
    let (at, read_only) = match at.strip_suffix(" of a read-only disk") {
        Some(at) => (at, true),
        None => (at, false),
    };
    let disk = format!("--disk={}", path.display());
    let settings = settings(&[&disk, &format!("--mounts=%1:{at}")]);
    let found = find(&settings, image).map_err(|error| error.to_string())?;
    let disks = plans(&[folder.path().join("image"), path], read_only);
    let told = found.told(image, &disks);
    told.map_err(|error| error.to_string().replace(&folder.path().display().to_string(), ""))
}

#[test]
fn the_guest_is_told_what_its_image_does_not_say_by_the_volumes_uuid() {
    let volume = first_extension(5, &link(1, 4));
    let to = |name: &str, path: &str| Ok(vec![(name.to_owned(), path.to_owned())]);
    let none = image(vec![]);
    assert_eq!(told(&none, &volume, "/data"), to(UUID, "/data"));
    assert_eq!(told(&none, &volume, "/var/log:ro"), to(UUID, "/var/log:ro"));
    assert_eq!(told(&none, &volume, "/to/log"), to(UUID, "/to/log"));
    assert_eq!(told(&none, &volume, "/data of a read-only disk"), to(UUID, "/data:ro"));
    // Its label, as `testing` has it, or its UUID.
    for name in ["label", "612D5555-4944-2D6F-662D-31362D627974"] {
        let says = image(vec![("other", Node::Text("/x")), (name, Node::Text("/data"))]);
        assert_eq!(told(&says, &volume, "/data"), Ok(vec![]));
        assert_eq!(told(&says, &volume, "/data:ro"), to(name, "/data:ro"));
        assert_eq!(told(&says, &volume, "/var"), to(name, "/var"));
    }
}

#[test]
fn what_nanos_could_not_mount_is_refused_with_the_remedy() {
    let image = image(vec![]);
    let volume = first_extension(5, &link(1, 4));
    for path in ["/none", "/var/none", "/file", "/data/below"] {
        let error = told(&image, &volume, path).unwrap_err();
        assert_eq!(
            error,
            format!(
                "mount %1: web.img has no folder {path} to mount it at: build the image again with \
                 `ops` and this in the Mounts of its config.json"
            )
        );
    }
    for (bytes, why) in [
        (vec![0x5a; 512], "there is no TFS"),
        (vec![0x5a; 100], "there is no TFS"),
        (b"NVMTFS\x06\x01".repeat(64), "TFS version 6"),
    ] {
        let error = told(&image, &bytes, "/data").unwrap_err();
        assert!(error.starts_with("/volume: it cannot be mounted: "), "{error}");
        assert!(error.contains(why) && error.contains("`ops volume create`"), "{error}");
    }
}

#[test]
fn a_share_is_mounted_by_its_tag_before_a_disk_by_its_number() {
    let ops = image(vec![("%7", Node::Text("/var/log"))]);
    let told = |line: &[&str]| {
        let settings = settings(line);
        let found = find(&settings, &ops).map_err(|error| error.to_string())?;
        found.told(&ops, &[]).map_err(|error| error.to_string())
    };
    let to = |name: &str| Ok(vec![(name.to_owned(), "/data".to_owned())]);
    assert_eq!(told(&["--share=f", "--disk=d", "--mounts=%1:/data"]), to("%1"));
    assert_eq!(told(&["--share=f", "--share=g:7", "--mounts=%7:/data"]), to("%7"));
    assert_eq!(told(&["--share=g:7", "--mounts=%7:/var/log"]), Ok(vec![]), "the image says so");
    let error = told(&["--share=f", "--mounts=%1:/none"]).unwrap_err();
    assert!(error.contains("web.img has no folder /none"), "{error}");
}

#[test]
fn mounts_that_cannot_be_told_apart_or_told_at_all_are_refused() {
    let (ops, disk) = (image(vec![]), "--disk=d");
    let refusal = |image: &Image, line: &[&str]| {
        let settings = settings(line);
        find(&settings, image).err().unwrap().to_string()
    };
    for number in ["%0", "%2", "%x", "%"] {
        let error = refusal(&ops, &[disk, &format!("--mounts={number}:/data")]);
        let begins = format!("mount {number}: %1 is the share with the tag 1, or the first disk");
        assert!(error.starts_with(&begins), "{error}");
        assert!(error.contains("there are 0 shares and 1 disks: add one"), "{error}");
    }
    let error = refusal(&ops, &[disk, "--mounts=%1:/data", "--mounts=%01:/var"]);
    assert!(error.contains("mounts %01 and %1 are one volume"), "{error}");
    let two = [disk, "--disk=e", "--mounts=%1:/data", "--mounts=%2:/data/"];
    assert!(refusal(&ops, &two).contains("mounts %1 and %2 have one place (/data/)"));
    let kernel = Image::recognise(Source::from_bytes("k", &ElfFile::kernel().build())).unwrap();
    let error = refusal(&kernel, &["--mounts=data:/data"]);
    assert!(error.contains("k is a kernel: attach the volume's file with --disk"), "{error}");
}
