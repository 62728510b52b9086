//! Compiles the thread-local pointer that stable Rust cannot express.
//! Writes below OUT_DIR only.

fn main() {
    println!("cargo:rerun-if-changed=src/sys/self.c");
    cc::Build::new()
        .file("src/sys/self.c")
        .pic(true)
        .flag_if_supported("-std=c11")
        .compile("keel_self");
}
