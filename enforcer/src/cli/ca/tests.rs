//! Against directories of the test's own.

use super::*;

#[test]
fn shows_what_openssl_would() {
    let dir = tempfile::tempdir().unwrap();
    assert!(show(dir.path()).unwrap_err().to_string().contains("enforcer init"));
    Ca::load_or_create(dir.path()).unwrap();
    let shown = show(dir.path()).unwrap();
    assert_eq!(shown.sha256.len(), 32 * 3 - 1);
    assert!(shown.subject.starts_with("CN=Enforcer CA"), "{}", shown.subject);
    assert!(shown.not_before < shown.not_after);
}

#[test]
fn rotation_keeps_the_old_certificate_and_leaves_a_pair_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    assert!(rotate(dir.path()).unwrap_err().to_string().contains("no CA"));
    Ca::load_or_create(dir.path()).unwrap();
    let old = fs::read(dir.path().join(ca::CERTIFICATE)).unwrap();
    rotate(dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join(OLD)).unwrap(), old);
    assert_ne!(fs::read(dir.path().join(ca::CERTIFICATE)).unwrap(), old);
    Ca::load(dir.path()).unwrap();
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["ca.key", "ca.old.pem", "ca.pem"]);
}

#[test]
fn the_store_is_found_by_its_directory() {
    let root = tempfile::tempdir().unwrap();
    let error = store::System::find_in(root.path()).unwrap_err();
    assert!(error.to_string().contains("ca-certificates"), "{error}");
    let anchors = root.path().join("etc/pki/ca-trust/source/anchors");
    fs::create_dir_all(&anchors).unwrap();
    let certificate = root.path().join("ca.pem");
    fs::write(&certificate, "a certificate").unwrap();
    let system = store::System::find_in(root.path()).unwrap();
    let at = system.place(&certificate).unwrap();
    assert_eq!(at, anchors.join("enforcer.pem"));
    assert_eq!(fs::read_to_string(at).unwrap(), "a certificate");
    assert_eq!(fs::read_dir(&anchors).unwrap().count(), 1);
}
