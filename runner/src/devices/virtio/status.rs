//! The device status field and the order in which a driver may set it (virtio 1.2 §2.1, §3.1.1).

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};

/// The steps of initialization, in order. A later one is worth nothing without those before it.
const STEPS: [u32; 4] = [
    VIRTIO_CONFIG_S_ACKNOWLEDGE,
    VIRTIO_CONFIG_S_DRIVER,
    VIRTIO_CONFIG_S_FEATURES_OK,
    VIRTIO_CONFIG_S_DRIVER_OK,
];

/// The device status field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(u32);

/// What a write to the status field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that is not so already.
    Nothing,
    /// A reset.
    Reset,
    /// These bits on top of those that are set; among them FAILED perhaps.
    Set(u32),
    /// What no driver may: a step without those before it, a bit taken back, any step after FAILED,
    /// a bit that does not exist.
    Forbidden,
}

impl Status {
    /// The field as it was, if a driver and a device can have brought it about.
    pub fn saved(bits: u32) -> Option<Self> {
        let own = VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED;
        in_order(bits & !own).then_some(Self(bits))
    }

    /// The field as the driver reads it.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether the driver has had its features accepted.
    pub fn features_ok(self) -> bool {
        self.has(VIRTIO_CONFIG_S_FEATURES_OK)
    }

    /// Whether the driver has finished.
    pub fn driver_ok(self) -> bool {
        self.has(VIRTIO_CONFIG_S_DRIVER_OK)
    }

    /// Whether the driver has given up.
    pub fn failed(self) -> bool {
        self.has(VIRTIO_CONFIG_S_FAILED)
    }

    /// Whether the device has given up.
    pub fn needs_reset(self) -> bool {
        self.has(VIRTIO_CONFIG_S_NEEDS_RESET)
    }

    /// Whether the driver can choose features: it has not had them accepted.
    pub fn can_choose_features(self) -> bool {
        !self.features_ok() && !self.failed()
    }

    /// Whether the driver can set up queues: between FEATURES_OK and DRIVER_OK.
    pub fn can_configure_queues(self) -> bool {
        self.features_ok() && !self.driver_ok() && !self.failed()
    }

    /// What the driver asks for by writing `value`. The device's own bit is not the driver's to
    /// write, and is left out on both sides.
    pub fn change(self, value: u32) -> Change {
        if value == 0 {
            return Change::Reset;
        }
        let now = self.0 & !VIRTIO_CONFIG_S_NEEDS_RESET;
        let wanted = value & !VIRTIO_CONFIG_S_NEEDS_RESET;
        let new = wanted & !now;
        if now & !wanted != 0 {
            return Change::Forbidden;
        }
        if new == 0 {
            return Change::Nothing;
        }
        if self.failed() || !in_order(wanted & !VIRTIO_CONFIG_S_FAILED) {
            return Change::Forbidden;
        }
        Change::Set(new)
    }

    /// The field with `bits` set.
    #[must_use]
    pub fn with(self, bits: u32) -> Self {
        Self(self.0 | bits)
    }

    fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}

/// Whether `steps` are the first few steps and nothing else.
fn in_order(steps: u32) -> bool {
    let mut all = 0;
    let mut prefixes = STEPS.iter().map(|step| {
        all |= step;
        all
    });
    steps == 0 || prefixes.any(|prefix| prefix == steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_goes_step_by_step_or_several_at_once() {
        let status = Status::default();
        assert_eq!(status.change(1), Change::Set(1));
        assert_eq!(status.change(3), Change::Set(3));
        assert_eq!(status.with(3).change(0xb), Change::Set(8));
        assert_eq!(status.with(0xb).change(0xf), Change::Set(4));
        assert_eq!(status.with(0xf).change(0xf), Change::Nothing);
    }

    #[test]
    fn steps_left_out_taken_back_or_unknown_are_forbidden() {
        // R27
        let status = Status::default();
        for (now, value) in [
            (0, 2),
            (1, 9),
            (3, 7),
            (0, 4),
            (0xb, 3),
            (0xf, 0xb),
            (0xf, 1),
            (0, 0x10),
            (0, 1 << 31),
        ] {
            assert_eq!(status.with(now).change(value), Change::Forbidden, "{now:#x} {value:#x}");
        }
    }

    #[test]
    fn after_failed_there_is_only_reset() {
        let status = Status::default().with(3);
        assert_eq!(status.change(0x83), Change::Set(0x80));
        let failed = status.with(0x80);
        assert_eq!(failed.change(0x8b), Change::Forbidden);
        assert_eq!(failed.change(0x83), Change::Nothing);
        assert_eq!(failed.change(0), Change::Reset);
    }

    #[test]
    fn needs_reset_is_the_devices_to_set_and_the_driver_cannot_clear_it() {
        let broken = Status::default().with(0x4f);
        assert_eq!(broken.change(0x4f), Change::Nothing);
        assert_eq!(broken.change(0x0f), Change::Nothing);
        assert_eq!(broken.change(0xcf), Change::Set(0x80));
        assert_eq!(Status::default().with(0xf).change(0x4f), Change::Nothing);
    }
}
