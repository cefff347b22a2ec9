//! What memory was needed for a moment only, and how is it given back?
//!
//! A start, the agent's own or that of work, touches code that nothing needs until the next (command line,
//! recovery of the store, unpacking, mounts), and the kernel maps 64 KiB around each touched page. The pages are the page cache's before and
//! after: what this makes smaller is what the agent itself holds and is charged with (RSS, PSS), and what
//! the kernel must unmap before it can use those pages for something else. What is used again comes back
//! with a minor fault.

use std::ffi::c_void;

/// Before any thread: glibc would give each thread an arena of its own, and keep what was free in it.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a setting of the allocator, made while there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Once something has been done, and nothing else is on its way.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: gives free pages of the heap to the kernel; nothing that is in use moves.
    unsafe {
        libc::malloc_trim(0)
    };
    // SAFETY: the callback fits the signature and keeps nothing.
    unsafe { libc::dl_iterate_phdr(Some(forget_code), std::ptr::null_mut()) };
}

/// Of the first object, which is this program: every segment that cannot be written, so that a page of it
/// is in memory what it is in the file.
unsafe extern "C" fn forget_code(object: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> libc::c_int {
    let page = rustix::param::page_size();
    // SAFETY: the loader gives a valid object, with as many headers as it says.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr as usize, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        let begin = (base + header.p_vaddr as usize) & !(page - 1);
        let end = (base + header.p_vaddr as usize + header.p_memsz as usize).next_multiple_of(page);
        // SAFETY: a mapping of this program's file, never written; it is read from the file when needed.
        unsafe { libc::madvise(begin as *mut c_void, end - begin, libc::MADV_DONTNEED) };
    }
    1
}
