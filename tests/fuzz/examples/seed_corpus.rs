//! Writes the corpus that the fuzz targets start from: `cargo run -p pefo-fuzz --example seed_corpus`.

use std::path::Path;

use pefo_core::disk::{Attributes, Disk};

fn main() -> Result<(), pefo_core::Error> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let disk = Disk::new();
    for seed in pefo_fuzz::seeds::all()? {
        let dir = corpus.join(seed.target);
        disk.create_dir_all(&dir, &Attributes::mode(0o755))?;
        disk.publish(&dir.join(seed.name), &seed.bytes, &Attributes::mode(0o644))?;
    }
    Ok(())
}
