//! Little-endian structures for guests and files, put together field by field.

/// The fields until now.
#[derive(Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    /// Another field of 16 bits.
    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Another field of 32 bits.
    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Another field of 64 bits.
    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes as they are.
    pub(crate) fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Zeros, until there are `len` bytes in all.
    pub(crate) fn up_to(mut self, len: usize) -> Self {
        self.0.resize(len, 0);
        self
    }
}
