//! Would this run on a board at all? Answered from the outline of the file, before any compiling.
//!
//! Reads section headers, imports and exports; function bodies are skipped. What passes here may still
//! be invalid (the compiler says so), but what is refused here gets an answer that names the import
//! and what would be right, which a linker error on a board at night does not.

use wasmparser::{
    ComponentExternalKind, ComponentTypeRef, CompositeInnerType, Encoding, ExternalKind, MemoryType, Parser,
    Payload, TypeRef,
};

use super::names::{self, Unknown};

/// Larger than any honest program; keeps a worker's input in memory.
pub const MODULE_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A core module with WASI preview 1.
    Module,
    /// A component with WASI preview 2 (0.2).
    Component,
}

/// What an acceptable guest is and uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    pub kind: Kind,
    pub size_bytes: usize,
    /// `wasi_snapshot_preview1.fd_write` or `wasi:cli/stdout@0.2.3`, in the file's order, without repeats.
    pub imports: Vec<String>,
    /// Linear memory that it wants before its first instruction (a module; 0 for a component).
    pub memory_min_bytes: u64,
}

impl Inspected {
    /// Whether `network` lists can mean anything to it: only components can open sockets.
    pub fn uses_sockets(&self) -> bool {
        self.imports.iter().any(|i| i.starts_with("wasi:sockets/"))
    }
}

/// Why a guest can not run here; each names what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("not WebAssembly: {what}; a .wasm file starts with the bytes 00 61 73 6d")]
    NotWasm { what: String },
    #[error("{size_bytes} bytes are too large; at most {MODULE_BYTES_MAX} are taken")]
    TooLarge { size_bytes: usize },
    #[error("broken WebAssembly at byte {offset}: {message}")]
    Broken { offset: usize, message: String },
    #[error("it imports `{import}`, which no board offers: {right}")]
    Import { import: String, right: &'static str },
    #[error("it needs {what}, which no board offers: {right}")]
    Feature { what: &'static str, right: &'static str },
    #[error("it has nothing to start: {right}")]
    NoEntry { right: &'static str },
    #[error("it does not export its memory; WASI needs the export `memory`")]
    NoMemory,
}

/// Looks at the outline of a guest; cheap (no function body is read) and bounded by the file's size.
pub fn inspect(bytes: &[u8]) -> Result<Inspected, Refused> {
    if bytes.len() > MODULE_BYTES_MAX {
        return Err(Refused::TooLarge { size_bytes: bytes.len() });
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(Refused::NotWasm { what: names::describe_start(bytes).to_string() });
    }
    let outline = Outline::read(bytes)?;
    outline.check_entry()?;
    Ok(Inspected {
        kind: outline.kind,
        size_bytes: bytes.len(),
        imports: outline.imports,
        memory_min_bytes: outline.memory_min_bytes,
    })
}

struct Outline {
    kind: Kind,
    imports: Vec<String>,
    exports: Vec<Export>,
    memory_min_bytes: u64,
}

struct Export {
    name: String,
    what: Exported,
}

#[derive(PartialEq, Eq)]
enum Exported {
    Func,
    Memory,
    Instance,
    Other,
}

impl Outline {
    fn read(bytes: &[u8]) -> Result<Self, Refused> {
        let mut outline =
            Outline { kind: Kind::Module, imports: vec![], exports: vec![], memory_min_bytes: 0 };
        // Components nest modules and components; only the outermost meets the board.
        let mut depth = 0u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(broken)? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) if depth > 0 => depth -= 1,
                payload if depth == 0 => outline.take(payload)?,
                _ => {}
            }
        }
        Ok(outline)
    }

    fn take(&mut self, payload: Payload<'_>) -> Result<(), Refused> {
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } => self.kind = Kind::Component,
            Payload::TypeSection(section) => {
                for group in section {
                    let group = group.map_err(broken)?;
                    if group.types().any(|t| !matches!(t.composite_type.inner, CompositeInnerType::Func(_))) {
                        return Err(Refused::Feature {
                            what: "garbage-collected types",
                            right: "build for linear memory (wasm32-wasip1)",
                        });
                    }
                }
            }
            Payload::TagSection(_) => {
                return Err(Refused::Feature {
                    what: "exceptions",
                    right: "build without them (C++: -fno-exceptions; Rust: panic=abort)",
                });
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(broken)?;
                    self.module_import(import.module, import.name, import.ty)?;
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.map_err(broken)?;
                    self.component_import(import.name.name, import.ty)?;
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory.map_err(broken)?;
                    check_memory(&memory)?;
                    let page = 1u64 << memory.page_size_log2.unwrap_or(16).min(16);
                    let bytes = memory.initial.saturating_mul(page);
                    self.memory_min_bytes = self.memory_min_bytes.saturating_add(bytes);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(broken)?;
                    let what = match export.kind {
                        ExternalKind::Func => Exported::Func,
                        ExternalKind::Memory => Exported::Memory,
                        _ => Exported::Other,
                    };
                    self.exports.push(Export { name: export.name.to_string(), what });
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.map_err(broken)?;
                    let what = match export.kind {
                        ComponentExternalKind::Instance => Exported::Instance,
                        ComponentExternalKind::Func => Exported::Func,
                        _ => Exported::Other,
                    };
                    self.exports.push(Export { name: export.name.name.to_string(), what });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn module_import(&mut self, module: &str, name: &str, ty: TypeRef) -> Result<(), Refused> {
        let import = format!("{module}.{name}");
        if let TypeRef::Memory(memory) = &ty {
            check_memory(memory)?;
        }
        let known = match ty {
            TypeRef::Func(_) | TypeRef::FuncExact(_) => names::check_preview1(module, name),
            _ => Err(Unknown("a guest brings its own memory, tables and globals")),
        };
        self.note(import, known)
    }

    fn component_import(&mut self, name: &str, ty: ComponentTypeRef) -> Result<(), Refused> {
        let known = match ty {
            ComponentTypeRef::Instance(_) => names::check_preview2(name),
            _ => Err(Unknown("a component may only import interfaces of WASI 0.2")),
        };
        self.note(name.to_string(), known)
    }

    fn note(&mut self, import: String, known: Result<(), Unknown>) -> Result<(), Refused> {
        if let Err(Unknown(right)) = known {
            return Err(Refused::Import { import, right });
        }
        if !self.imports.contains(&import) {
            self.imports.push(import);
        }
        Ok(())
    }

    fn exports(&self, what: Exported, name: impl Fn(&str) -> bool) -> bool {
        self.exports.iter().any(|e| e.what == what && name(&e.name))
    }

    fn check_entry(&self) -> Result<(), Refused> {
        match self.kind {
            Kind::Module => self.check_module_entry(),
            Kind::Component => self.check_component_entry(),
        }
    }

    fn check_module_entry(&self) -> Result<(), Refused> {
        if !self.exports(Exported::Func, |n| n == "_start") {
            let right = if self.exports(Exported::Func, |n| n == "_initialize") {
                "this is a library (a reactor, it exports `_initialize`); build a program with a main function"
            } else {
                "a module must export the function `_start`; build a program with a main function for wasm32-wasip1"
            };
            return Err(Refused::NoEntry { right });
        }
        if !self.imports.is_empty() && !self.exports(Exported::Memory, |n| n == "memory") {
            return Err(Refused::NoMemory);
        }
        Ok(())
    }

    fn check_component_entry(&self) -> Result<(), Refused> {
        if self.exports(Exported::Instance, |n| n.starts_with("wasi:cli/run@0.2.")) {
            return Ok(());
        }
        let right = if self.exports(Exported::Instance, |n| n.starts_with("wasi:http/")) {
            "this is an HTTP handler; only commands run here: export wasi:cli/run@0.2 and listen on a socket"
        } else if self.exports(Exported::Instance, |n| n.starts_with("wasi:cli/run@0.3")) {
            "it exports wasi:cli/run@0.3; boards run WASI 0.2: build for wasm32-wasip2"
        } else {
            "a component must export wasi:cli/run@0.2; build a program with a main function for wasm32-wasip2"
        };
        Err(Refused::NoEntry { right })
    }
}

fn check_memory(memory: &MemoryType) -> Result<(), Refused> {
    if memory.shared {
        let right = "build for wasm32-wasip1, not wasm32-wasip1-threads";
        return Err(Refused::Feature { what: "threads (a shared memory)", right });
    }
    if memory.memory64 {
        return Err(Refused::Feature { what: "64-bit memory", right: "build for wasm32-wasip1" });
    }
    Ok(())
}

fn broken(e: wasmparser::BinaryReaderError) -> Refused {
    Refused::Broken { offset: e.offset(), message: e.message().to_string() }
}
