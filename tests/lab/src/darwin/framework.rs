//! The functions of Hypervisor.framework on macOS 15, and on no later system: what a program may take
//! from it that is to start there.
//!
//! The names are Apple's documentation's ("Hypervisor", Apple silicon), each with the release in
//! which it is introduced; `applevisor-sys` has them under its features of the same names, and the test
//! below compares. macOS 15.2 added those of SME, macOS 26 those of the 4 KiB granule: neither is here.

/// All of them, in the order of the alphabet.
pub(super) const MACOS_15_0: [&str; 75] = [
    "hv_gic_config_create",
    "hv_gic_config_set_distributor_base",
    "hv_gic_config_set_msi_interrupt_range",
    "hv_gic_config_set_msi_region_base",
    "hv_gic_config_set_redistributor_base",
    "hv_gic_create",
    "hv_gic_get_distributor_base_alignment",
    "hv_gic_get_distributor_reg",
    "hv_gic_get_distributor_size",
    "hv_gic_get_icc_reg",
    "hv_gic_get_ich_reg",
    "hv_gic_get_icv_reg",
    "hv_gic_get_intid",
    "hv_gic_get_msi_reg",
    "hv_gic_get_msi_region_base_alignment",
    "hv_gic_get_msi_region_size",
    "hv_gic_get_redistributor_base",
    "hv_gic_get_redistributor_base_alignment",
    "hv_gic_get_redistributor_reg",
    "hv_gic_get_redistributor_region_size",
    "hv_gic_get_redistributor_size",
    "hv_gic_get_spi_interrupt_range",
    "hv_gic_reset",
    "hv_gic_send_msi",
    "hv_gic_set_distributor_reg",
    "hv_gic_set_icc_reg",
    "hv_gic_set_ich_reg",
    "hv_gic_set_icv_reg",
    "hv_gic_set_msi_reg",
    "hv_gic_set_redistributor_reg",
    "hv_gic_set_spi",
    "hv_gic_set_state",
    "hv_gic_state_create",
    "hv_gic_state_get_data",
    "hv_gic_state_get_size",
    "hv_vcpu_config_create",
    "hv_vcpu_config_get_ccsidr_el1_sys_reg_values",
    "hv_vcpu_config_get_feature_reg",
    "hv_vcpu_create",
    "hv_vcpu_destroy",
    "hv_vcpu_get_exec_time",
    "hv_vcpu_get_pending_interrupt",
    "hv_vcpu_get_reg",
    "hv_vcpu_get_simd_fp_reg",
    "hv_vcpu_get_sys_reg",
    "hv_vcpu_get_trap_debug_exceptions",
    "hv_vcpu_get_trap_debug_reg_accesses",
    "hv_vcpu_get_vtimer_mask",
    "hv_vcpu_get_vtimer_offset",
    "hv_vcpu_run",
    "hv_vcpu_set_pending_interrupt",
    "hv_vcpu_set_reg",
    "hv_vcpu_set_simd_fp_reg",
    "hv_vcpu_set_sys_reg",
    "hv_vcpu_set_trap_debug_exceptions",
    "hv_vcpu_set_trap_debug_reg_accesses",
    "hv_vcpu_set_vtimer_mask",
    "hv_vcpu_set_vtimer_offset",
    "hv_vcpus_exit",
    "hv_vm_allocate",
    "hv_vm_config_create",
    "hv_vm_config_get_default_ipa_size",
    "hv_vm_config_get_el2_enabled",
    "hv_vm_config_get_el2_supported",
    "hv_vm_config_get_ipa_size",
    "hv_vm_config_get_max_ipa_size",
    "hv_vm_config_set_el2_enabled",
    "hv_vm_config_set_ipa_size",
    "hv_vm_create",
    "hv_vm_deallocate",
    "hv_vm_destroy",
    "hv_vm_get_max_vcpu_count",
    "hv_vm_map",
    "hv_vm_protect",
    "hv_vm_unmap",
];

/// What the linker wants in place of a library that it has not (the text-based format of Apple's
/// `tapi`, version 4): where macOS has it, and the names in it.
pub(super) fn stub(install_name: &str, names: &[&str]) -> String {
    let symbols: Vec<String> = names.iter().map(|name| format!("_{name}")).collect();
    format!(
        "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\ninstall-name: '{install_name}'\n\
         exports:\n  - targets: [ arm64-macos ]\n    symbols: [ {} ]\n...\n",
        symbols.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;
    use crate::workspace::cargo;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// The functions in applevisor-sys, and the feature each is behind.
    fn bindings() -> BTreeMap<String, Option<String>> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let mut metadata = cargo();
        metadata.args(["metadata", "--format-version=1", "--offline"]);
        // What other systems would need may not be here.
        metadata.args(["--filter-platform", "x86_64-unknown-linux-gnu", "--manifest-path"]);
        let metadata = command::output(metadata.arg(manifest)).unwrap();
        let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == "applevisor-sys").unwrap();
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        let text = std::fs::read_to_string(folder.join("src/lib.rs")).unwrap();
        let mut functions = BTreeMap::new();
        let mut feature = None;
        for line in text.lines().map(str::trim) {
            if let Some((_, rest)) = line.split_once("#[cfg(feature = \"") {
                feature = rest.split('"').next().map(str::to_owned);
            } else if let Some((name, _)) =
                line.split_once("fn hv_").and_then(|(_, rest)| rest.split_once('('))
            {
                functions.insert(format!("hv_{name}"), feature.take());
            } else if line.ends_with([';', '{', '}']) {
                feature = None;
            }
        }
        functions
    }

    #[test]
    fn the_list_is_what_the_bindings_have_for_macos_15_0() {
        let old = ["macos-11-0", "macos-12-1", "macos-13-0", "macos-15-0"];
        let bindings = bindings();
        let here = |feature: &Option<String>| {
            feature.as_deref().is_none_or(|feature| old.contains(&feature))
        };
        let names: Vec<_> =
            bindings.iter().filter(|(_, feature)| here(feature)).map(|(name, _)| name).collect();
        assert_eq!(names, MACOS_15_0.iter().collect::<Vec<_>>());
        // 15.2 and 26 have more: the comparison would not notice if it found no features at all.
        assert!(bindings.len() > names.len());
        assert!(!MACOS_15_0.contains(&"hv_vm_config_set_ipa_granule"));
    }

    #[test]
    fn a_stub_names_the_library_and_its_functions() {
        let stub = stub("/usr/lib/liba.dylib", &["a", "b"]);
        assert!(stub.contains("install-name: '/usr/lib/liba.dylib'\n"), "{stub}");
        assert!(stub.contains("symbols: [ _a, _b ]\n"), "{stub}");
    }
}
