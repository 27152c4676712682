use super::*;
use crate::image::testing::{note, pvh_note, solo5_manifest, solo5_note};

fn read(segment: &[u8]) -> Result<Notes, NoteError> {
    let mut notes = Notes::default();
    notes.add(segment, 4)?;
    Ok(notes)
}

#[test]
fn each_known_note_is_understood_and_others_are_passed_over() {
    let segment = [
        note(b"stapsdt\0", 3, b"whatever"),
        pvh_note(0x10_0000),
        note(b"Xen\0", 6, b"FreeBSD\0"),
        note(b"Xen\0", 6, b"NetBSD\0"),
        solo5_note(1, 2),
        note(b"Solo5\0", 0x3154_464d, &solo5_manifest(&[])),
        note(b"HERMIT\0", 0x5a00, &[4]),
        note(b"UHYVEIF\0", 0x5b00, &[0, 0, 0, 2]),
        note(b"GNU\0", 1, &[0; 16]),
        note(b"GNU\0", 1, &[6, 0, 13, 1].map(u32::to_le_bytes).concat()),
    ]
    .concat();
    let notes = read(&segment).unwrap();
    let expected = Notes {
        pvh_entry: Some(0x10_0000),
        guest: Some(System::FreeBsd),
        solo5: Some(Abi { target: 1, version: 2 }),
        solo5_manifest: Some(Manifest { entries: vec![None] }),
        hermit: Some(4),
        uhyve: Some(2),
        hermit_kernel: Some([0, 13, 1]),
        linux_abi: true,
    };
    assert_eq!(notes, expected);
}

#[test]
fn an_address_of_64_bits_is_a_pvh_entry_if_it_is_one_of_32() {
    assert_eq!(
        read(&note(b"Xen\0", 18, &0x10_0000_u64.to_le_bytes())).unwrap().pvh_entry,
        Some(0x10_0000)
    );
    let high = note(b"Xen\0", 18, &0x1_0000_0000_u64.to_le_bytes());
    assert_eq!(read(&high), Err(NoteError::PvhEntry(0)));
    assert_eq!(read(&note(b"Xen\0", 18, b"")), Err(NoteError::PvhEntry(0)));
    assert_eq!(read(&note(b"Xen\0", 18, b"123")), Err(NoteError::PvhEntry(0)));
}

#[test]
fn xens_other_notes_and_other_owners_are_no_pvh_entry() {
    let notes =
        [note(b"Xen\0", 6, b"generic\0"), note(b"Yen\0", 18, &[0; 4]), note(b"", 18, &[0; 4])];
    assert_eq!(read(&notes.concat()).unwrap(), Notes::default());
    // The tag of an ABI that is not Linux: 6 is Hermit's.
    assert!(!read(&note(b"GNU\0", 1, &[6, 0, 0, 0])).unwrap().linux_abi);
}

#[test]
fn lengths_that_lie_are_errors_that_name_the_note() {
    for (name_len, desc_len) in
        [(u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX), (13, 0), (0, 13)]
    {
        let mut segment = pvh_note(0x10_0000);
        segment.extend(name_len.to_le_bytes());
        segment.extend(desc_len.to_le_bytes());
        segment.extend([0; 16]);
        assert_eq!(read(&segment), Err(NoteError::Truncated(20)), "{name_len} {desc_len}");
    }
}

#[test]
fn empty_notes_advance_and_padding_ends_the_segment() {
    assert_eq!(read(&[0; 12 * 5000 + 11]).unwrap(), Notes::default());
    assert_eq!(read(&[]).unwrap(), Notes::default());
}

#[test]
fn every_truncation_of_a_note_is_an_error_or_the_note_is_not_there() {
    let whole = pvh_note(0x10_0000);
    for len in 0..whole.len() {
        let expected = if len < 12 { Ok(Notes::default()) } else { Err(NoteError::Truncated(0)) };
        assert_eq!(read(&whole[..len]), expected, "{len}");
    }
    // The padding behind the last description need not be there.
    let odd = note(b"HERMIT\0", 0x5a00, &[4]);
    assert_eq!(read(&odd[..odd.len() - 3]).unwrap().hermit, Some(4));
}

#[test]
fn two_pvh_notes_may_agree_but_not_disagree() {
    assert_eq!(read(&[pvh_note(1), pvh_note(1)].concat()).unwrap().pvh_entry, Some(1));
    assert_eq!(read(&[pvh_note(1), pvh_note(2)].concat()), Err(NoteError::TwoPvhEntries(1, 2)));
}

#[test]
fn notes_in_a_segment_aligned_to_8_are_padded_to_8() {
    let mut segment = note(b"GNU\0", 5, &[0; 4]);
    segment.resize(24, 0);
    segment.extend(pvh_note(0x10_0000));
    segment.resize(48, 0);
    let mut notes = Notes::default();
    notes.add(&segment, 8).unwrap();
    assert_eq!(notes.pvh_entry, Some(0x10_0000));
    // Any other alignment, hostile ones included, means 4.
    for align in [0, 1, 3, 16, u64::MAX] {
        assert!(Notes::default().add(&pvh_note(1), align).is_ok());
    }
}

#[test]
fn solo5_and_hermit_notes_that_are_too_short_are_refused() {
    assert_eq!(read(&note(b"Solo5\0", 0x3149_4241, &[1, 0, 0, 0])), Err(NoteError::Solo5(0)));
    assert_eq!(read(&note(b"HERMIT\0", 0x5a00, &[])), Err(NoteError::Hermit(0)));
    assert_eq!(read(&note(b"UHYVEIF\0", 0x5b00, &[0, 0, 2])), Err(NoteError::Uhyve(0)));
}

#[test]
fn solo5s_notes_pad_their_name_to_4_in_a_segment_aligned_to_8_and_are_each_said_once() {
    let manifest = note(b"Solo5\0", 0x3154_464d, &solo5_manifest(&[("net", 2)]));
    let mut notes = Notes::default();
    notes.add(&manifest, 8).unwrap();
    notes.add(&manifest, 4).unwrap();
    assert_eq!(notes.solo5_manifest.as_ref().unwrap().devices().count(), 1);
    let other = note(b"Solo5\0", 0x3154_464d, &solo5_manifest(&[]));
    assert_eq!(notes.add(&other, 8), Err(NoteError::TwoSolo5(0)));
    assert_eq!(read(&[solo5_note(1, 2), solo5_note(2, 2)].concat()), Err(NoteError::TwoSolo5(36)));
    let error = read(&note(b"Solo5\0", 0x3154_464d, &[0; 5])).unwrap_err();
    assert_eq!(error, NoteError::Manifest(0, ManifestError::Truncated));
}
