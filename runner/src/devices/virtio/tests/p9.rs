//! The 9P transport, message by message; what messages do is tested beside the server.

use hv::Width;
use tempfile::TempDir;
use virtio_bindings::virtio_ids::VIRTIO_ID_9P;
use vm_memory::{Bytes, GuestAddress};

use super::super::COMMON_FEATURES;
use super::super::p9::Share;
use super::{Rig, SEAM, WRITE, reg};
use crate::machine::bus::Device;
use crate::p9::Folder;

const MESSAGE: u64 = 0x10000;
const ANSWER: u64 = 0x20000;
/// Asks for the dialect, with messages of 8 KiB.
const VERSION: &[u8] = b"\x15\0\0\0\x64\xff\xff\0\x20\0\0\x08\09P2000.L";
/// The same as an answer.
const ANSWERED: &[u8] = b"\x15\0\0\0\x65\xff\xff\0\x20\0\0\x08\09P2000.L";
/// The folder as fid 0.
const ATTACH: &[u8] = b"\x17\0\0\0\x68\x01\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0";

fn rig() -> (Rig, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let open = Folder::open(folder.path(), false).unwrap();
    let share = Share::new("share0", "folder", "data", open);
    let rig = Rig::new(share.identity(), Box::new(share));
    (rig, folder)
}

/// Sends `message` and gives the answer all of `room`. Returns as many bytes as the used ring says.
fn send(rig: &mut Rig, message: &[u8], room: &[(u64, u32, u16)]) -> Vec<u8> {
    rig.memory.write_slice(message, GuestAddress(MESSAGE)).unwrap();
    let mut chain = vec![(MESSAGE, u32::try_from(message.len()).unwrap(), 0)];
    chain.extend(room);
    rig.chain(&chain);
    let before = rig.used_index();
    rig.offer(0);
    rig.kick();
    assert_eq!((rig.status(), rig.used_index()), (0xf, before.wrapping_add(1)));
    rig.bytes(ANSWER, usize::try_from(rig.used(before).1).unwrap())
}

const ROOM: &[(u64, u32, u16)] = &[(ANSWER, 4096, WRITE)];

#[test]
fn a_driver_is_told_the_tag() {
    let (rig, _folder) = rig();
    assert_eq!(rig.read(reg::DEVICE_ID), u64::from(VIRTIO_ID_9P));
    assert_eq!(rig.offered(), COMMON_FEATURES | 1);
    let config = rig.mmio.read(reg::CONFIG, Width::W8);
    assert_eq!(&config.to_le_bytes(), b"\x04\0data\0\0");
}

#[test]
fn an_answer_is_as_long_as_the_used_ring_says() {
    let (mut rig, _folder) = rig();
    rig.start(0);
    assert_eq!(send(&mut rig, VERSION, ROOM), ANSWERED);
    let attached = send(&mut rig, ATTACH, ROOM);
    assert_eq!((attached.len(), attached[4], attached[7]), (7 + 13, 105, 0x80));
}

#[test]
fn messages_and_answers_lie_across_pieces_of_ram() {
    let (mut rig, _folder) = rig();
    rig.start(0);
    let (before, after) = (SEAM - 10, 4096);
    rig.memory.write_slice(VERSION, GuestAddress(before)).unwrap();
    rig.chain(&[
        (before, 21, 0),
        (ANSWER, 3, WRITE),
        (ANSWER + 3, 0, WRITE),
        (ANSWER + 3, after, WRITE),
    ]);
    rig.offer(0);
    rig.kick();
    assert_eq!(rig.bytes(ANSWER, 21), ANSWERED);
}

#[test]
fn more_bytes_than_a_message_may_have_are_not_read() {
    let (mut rig, _folder) = rig();
    rig.start(0);
    // A message that says it is as long as all that follows, which is most of RAM.
    let len = 48u32 << 20;
    rig.memory.write_slice(&len.to_le_bytes(), GuestAddress(SEAM)).unwrap();
    rig.chain(&[(SEAM, len, 0), (ANSWER, 4096, WRITE)]);
    rig.offer(0);
    rig.kick();
    assert_eq!(rig.bytes(ANSWER, 11), b"\x0b\0\0\0\x07\0\0\x47\0\0\0");
}

#[test]
fn a_chain_without_header_or_room_breaks_the_device() {
    for chain in [
        &[(MESSAGE, 21, 0)][..],
        &[(MESSAGE, 21, 0), (ANSWER, 10, WRITE)],
        &[(ANSWER, 4096, WRITE)],
        &[(MESSAGE, 6, 0), (ANSWER, 4096, WRITE)],
    ] {
        let (mut rig, _folder) = rig();
        rig.start(0);
        rig.chain(chain);
        rig.offer(0);
        rig.kick();
        rig.expect_broken();
    }
}

#[test]
fn a_new_activation_is_a_new_session() {
    let (mut rig, folder) = rig();
    std::fs::write(folder.path().join("file"), "").unwrap();
    rig.start(0);
    for _ in 0..100 {
        send(&mut rig, VERSION, ROOM);
        // Fid 0 is free again.
        assert_eq!(send(&mut rig, ATTACH, ROOM)[4], 105);
        let walk = b"\x17\0\0\0\x6e\x01\0\0\0\0\0\x01\0\0\0\x01\0\x04\0file";
        assert_eq!(send(&mut rig, walk, ROOM)[4], 111);
        let open = b"\x0f\0\0\0\x0c\x01\0\x01\0\0\0\0\0\0\0";
        assert_eq!(send(&mut rig, open, ROOM)[4], 13);
        rig.restart(0);
    }
}
