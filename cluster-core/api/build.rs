//! Turns `proto/` into Rust types (prost) and their JSON (our generator).

#[path = "build/json.rs"]
mod json;
#[path = "build/names.rs"]
mod names;
#[path = "build/required.rs"]
mod required;

use protox::prost_reflect::DescriptorPool;
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build");
    let descriptors =
        protox::compile(["mesos/v1/master.proto", "mesos/v1/scheduler.proto"], ["proto"])?;
    let pool = DescriptorPool::from_file_descriptor_set(descriptors.clone())?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("json.rs"), json::generate(&pool)?)?;
    std::fs::write(out.join("required.rs"), required::generate(&pool))?;
    // The tests compare our JSON with that of a reflecting library.
    std::fs::write(out.join("descriptors.bin"), pool.encode_to_vec())?;

    let mut config = prost_build::Config::new();
    config.btree_map(["."]);
    config.compile_fds(descriptors)?;
    Ok(())
}
