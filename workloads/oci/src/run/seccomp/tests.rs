//! The program against seccompiler's of the same rules, both run here call by call.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::SeccompAction::{self, Allow, Errno};
use seccompiler::{
    BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, sock_filter,
};

use super::calls::{self, Answer, Test};
use super::*;

const ALLOWED: u32 = 0x7fff_0000;
const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

/// What the kernel would do with a call of that number and first argument.
fn run(program: &[sock_filter], architecture: u32, number: u32, argument: u64) -> u32 {
    let data = |at: u32| match at {
        0 => number,
        4 => architecture,
        16 => argument as u32,
        20 => (argument >> 32) as u32,
        other => panic!("reads at {other}"),
    };
    let (mut at, mut word) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at].clone();
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => word = data(k),
            0x54 => word &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(word == k),
            0x25 => at += jump(word > k),
            0x35 => at += jump(word >= k),
            0x06 => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn rules(answer: &Answer) -> Vec<SeccompRule> {
    let Answer::AllowIf(tests) = answer else { return Vec::new() };
    let rule = |test: &Test| {
        let (operator, value) = match *test {
            Test::Is(value) => (SeccompCmpOp::Eq, value),
            Test::IsNot(value) => (SeccompCmpOp::Ne, value),
            Test::HasNoneOf(bits) => (SeccompCmpOp::MaskedEq(bits.into()), 0),
        };
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value.into()).unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    };
    tests.iter().map(rule).collect()
}

fn theirs(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> BpfProgram {
    let arch = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, otherwise, matched, arch).unwrap().try_into().unwrap()
}

fn holders() -> Vec<BTreeSet<String>> {
    let of = |names: &[&str]| names.iter().map(|n| format!("CAP_{n}")).collect();
    vec![
        of(&[]),
        of(&["SYS_CHROOT", "CHOWN"]),
        of(&["SYS_ADMIN", "SYS_PTRACE", "BPF"]),
        of(&["SYS_RAWIO", "PERFMON"]),
    ]
}

#[test]
fn every_call_gets_what_seccompiler_would_answer() {
    for capabilities in holders() {
        let [ours] = filters(Seccomp::Default, &capabilities).unwrap().try_into().unwrap();
        let answers = calls::answers(&capabilities);
        let allowed = answers.iter().filter(|(_, a)| !matches!(a, Answer::Refuse(_)));
        let oracle = theirs(allowed.map(|(n, a)| (*n, rules(a))).collect(), Errno(libc::EPERM as u32), Allow);
        for number in 0..457 {
            for argument in [
                0,
                1,
                2,
                8,
                40,
                0x2_0000,
                0x2_0008,
                0x100,
                0x1_0000_0000,
                0x1000_0000,
                0x7e02_0000,
                0xffff_ffff,
                u64::MAX,
            ] {
                let expected = match answers.get(&i64::from(number)) {
                    Some(Answer::Refuse(errno)) => 0x5_0000 | *errno as u32,
                    _ => run(&oracle, ARCHITECTURE, number, argument),
                };
                assert_eq!(run(&ours, ARCHITECTURE, number, argument), expected, "{number} ({argument:#x})");
            }
        }
        for number in [457, 600, 0x4000_0000, 0x4000_0001, u32::MAX] {
            assert_eq!(run(&ours, ARCHITECTURE, number, 0), 0x5_0000 | libc::ENOSYS as u32);
        }
        assert_eq!(run(&ours, ARCHITECTURE ^ 1, 0, 0), 0x8000_0000);
        assert_eq!(run(&ours, ARCHITECTURE, libc::SYS_read as u32, 0), ALLOWED);
    }
}

#[test]
fn the_program_is_short() {
    for capabilities in holders() {
        let length = filters(Seccomp::Default, &capabilities).unwrap()[0].len();
        assert!(length < 255, "{length} instructions");
    }
    assert!(filters(Seccomp::Off, &BTreeSet::new()).unwrap().is_empty());
}
