//! The kernel inside a bzImage (kernel documentation, arch/x86/boot): Debian ships no other file, and
//! what is inside is an ELF with a PVH note.

use crate::command::Result;

/// The first block of "legacy" LZ4, as `lz4 -l` writes it: the magic, then blocks of at most 8 MiB,
/// each after its compressed length.
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
const LZ4_BLOCK: usize = 8 << 20;

/// Unpacks the ELF kernel in `image`.
pub(crate) fn kernel(image: &[u8]) -> Result<Vec<u8>> {
    let payload = payload(image).ok_or("not a bzImage of protocol 2.08 or later")?;
    let blocks = payload
        .strip_prefix(&LZ4_LEGACY)
        .ok_or("the kernel in the bzImage is not compressed with LZ4: teach the lab what is")?;
    let kernel = unpack(blocks)?;
    match kernel.starts_with(b"\x7fELF") {
        true => Ok(kernel),
        false => Err("what is in the bzImage is no ELF kernel".to_owned()),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

/// The compressed kernel, without the length of the unpacked one that its build appends.
fn payload(image: &[u8]) -> Option<&[u8]> {
    if image.get(0x202..0x206)? != b"HdrS" || *image.get(0x206)? < 8 {
        return None;
    }
    // 0 means 4, from when a boot sector did not know.
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + u32_at(image, 0x248)?;
    let end = start.checked_add(u32_at(image, 0x24c)?)?.checked_sub(4)?;
    image.get(start..end)
}

fn unpack(mut blocks: &[u8]) -> Result<Vec<u8>> {
    let mut kernel = Vec::new();
    while !blocks.is_empty() {
        let (block, rest) = u32_at(blocks, 0)
            .and_then(|length| blocks.get(4..)?.split_at_checked(length))
            .ok_or("the kernel in the bzImage ends in the middle of a block")?;
        let unpacked = lz4_flex::block::decompress(block, LZ4_BLOCK)
            .map_err(|e| format!("the kernel in the bzImage cannot be unpacked: {e}"))?;
        kernel.extend(unpacked);
        blocks = rest;
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage whose kernel is `kernel`, in blocks of `size`.
    fn image(kernel: &[u8], size: usize) -> Vec<u8> {
        let mut payload = LZ4_LEGACY.to_vec();
        for block in kernel.chunks(size) {
            let block = lz4_flex::block::compress(block);
            payload.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
            payload.extend(block);
        }
        payload.extend(u32::try_from(kernel.len()).unwrap().to_le_bytes());
        let mut image = vec![0; 5 * 512 + 0x30];
        image[0x1f1] = 4;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206] = 15; // protocol 2.15
        image[0x248] = 0x30;
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend(payload);
        image
    }

    #[test]
    fn the_kernel_comes_out_as_it_went_in() {
        let elf = [&b"\x7fELF"[..], &[7; 9000], b"end"].concat();
        assert_eq!(kernel(&image(&elf, 4000)).unwrap(), elf);
    }

    #[test]
    fn a_damaged_image_is_an_error() {
        let whole = image(b"\x7fELF and more", 100);
        assert!(kernel(&whole[..whole.len() - 5]).unwrap_err().contains("not a bzImage"));
        assert!(kernel(b"MZ").unwrap_err().contains("not a bzImage"));
        assert!(kernel(&image(b"no kernel", 100)).unwrap_err().contains("no ELF"));
        let mut gzip = whole.clone();
        gzip[5 * 512 + 0x30] = 0x1f;
        assert!(kernel(&gzip).unwrap_err().contains("LZ4"));
        let mut long = whole;
        long[5 * 512 + 0x34] = 0xff;
        assert!(kernel(&long).unwrap_err().contains("middle of a block"));
    }
}
