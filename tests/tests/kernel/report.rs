//! What this kernel gives, for the matrix of kernels, and what a connect costs
//! by the kernel's own account.

use enforcer::capture::Capture;
use enforcer_tests::probe::{Bench, PROXY, RESOLVER, gate, holds, said};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Arc;

/// Connects that are counted.
const CONNECTS: u32 = 3_000;

/// Adds a line to the report, when one is written.
fn report(line: &str) {
    if let Some(file) = std::env::var_os("ENFORCER_REPORT") {
        let file = OpenOptions::new().create(true).append(true).open(file);
        writeln!(file.expect("the report"), "{line}").expect("the report takes a line");
    }
    println!("{line}");
}

#[test]
fn what_this_kernel_gives() {
    let bench = Bench::new();
    let capture = bench.install();
    for layer in ["cgroup", "unix", "lsm"] {
        let held = holds(&capture, layer);
        assert!(held || layer != "cgroup", "the cgroup layer always holds");
        let detail = detail(&capture, layer);
        let detail = detail.split(';').next().unwrap_or_default().replace('|', "/");
        // The bench's own cgroup says nothing to others.
        let detail = detail.split(" on /").next().unwrap_or_default();
        report(&format!("layer|{layer}|{}|{detail}", if held { "holds" } else { "missing" }));
    }
}

fn detail(capture: &Capture, name: &str) -> String {
    let layers = capture.layers();
    layers.into_iter().find(|layer| layer.name == name).map(|l| l.detail).unwrap_or_default()
}

#[test]
fn what_a_connect_costs() {
    let bench = Bench::new();
    let capture = Arc::new(bench.install());
    let _arrivals = gate::open(&capture, PROXY, RESOLVER);
    capture.beat();
    let links = std::fs::read_dir(bench.config.kernel.pin_dir.join("links")).expect("links");
    let pin = links.map(|dir| dir.expect("an entry").path().join("connect4")).next();
    let pin = pin.expect("the root's links");
    // bpf(2): OBJ_GET of the link, PROG_GET_FD_BY_ID of what is behind it; the kernel shows its
    // account of a program with the descriptor. ENABLE_STATS counts while it is held.
    let account = format!(
        "
def bpf(command, attribute):
    return checked(libc.syscall(321, command, ctypes.create_string_buffer(attribute, 128), 128))
def shown(fd, key):
    return next(int(l.split()[1]) for l in open(f'/proc/self/fdinfo/{{fd}}') if l.startswith(key))
path = ctypes.create_string_buffer(b'{}')
program = bpf(13, struct.pack('=I', shown(bpf(7, struct.pack('=QII', ctypes.addressof(path), 0, 0)), 'prog_id:')))
stats = bpf(32, bytes(4))
if os.fork() == 0:
    open('{}/cgroup.procs', 'w').write('0')
    for _ in range({CONNECTS}):
        s = socket(); s.connect_ex((FAR4, FAR_PORT)); s.close()
    os._exit(0)
os.wait()
print(shown(program, 'run_time_ns:'), shown(program, 'run_cnt:'))
",
        pin.display(),
        bench.cgroup("a").display(),
    );
    let said = said(&mut bench.free(&account));
    let (time, count) = said.split_once(' ').expect("two numbers");
    let (time, count): (u64, u64) = (time.parse().unwrap(), count.parse().unwrap());
    assert_eq!(count, u64::from(CONNECTS), "every connect runs the program once");
    let mean = time / count;
    report(&format!("connect4|{mean}|{count}"));
    // Emulated or on a busy machine it is many times the figure in docs/kernels.md; what would be
    // seen here is a program that searches or waits.
    assert!(mean < 200_000, "{mean} ns for each connect");
}
