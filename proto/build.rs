//! Compiles the .proto files with protox: no protoc is needed on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=enforcer");
    let files = protox::compile(
        [
            "enforcer/v1/approval.proto",
            "enforcer/v1/people.proto",
            "enforcer/v1/policy.proto",
            "enforcer/v1/step.proto",
            "enforcer/v1/store.proto",
            "enforcer/v1/task.proto",
            "enforcer/v1/transcript.proto",
        ],
        ["."],
    )?;
    tonic_prost_build::configure()
        .bytes(".enforcer.v1.Body.data")
        .bytes(".enforcer.v1.ApprovalRequest.body")
        .compile_fds(files)?;
    Ok(())
}
