//! Faults of the machine, made from outside by strace's injection: the kernel's answer to a system call of one thread of the
//! running program is another one, or comes late.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// It lasts as long as the value.
pub struct Fault(Child);

impl Fault {
    /// `inject` is that of strace(1), of one thread of a process by its name; the main thread has the program's.
    pub fn on(process: u32, thread: &str, inject: &str) -> Fault {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|task| task.unwrap().path());
        let named = |path: &std::path::PathBuf| fs::read_to_string(path.join("comm")).unwrap().trim_end() == thread;
        let task = tasks.filter(named).min().unwrap_or_else(|| panic!("no thread {thread}"));
        Fault::at(task.file_name().unwrap().to_str().unwrap(), inject)
    }

    /// The same by the thread's number.
    pub fn at(thread: &str, inject: &str) -> Fault {
        let call = inject.split(':').next().unwrap();
        let mut child = Command::new("strace")
            .args(["-e", &format!("trace={call}"), "-e", &format!("inject={inject}"), "-p", thread])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is installed");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let attached = lines.find(|line| line.contains("attached") || line.contains("attach:"));
        assert!(attached.as_ref().is_some_and(|line| line.contains(" attached")), "{attached:?}");
        // What it says later is read, so that it never waits for us.
        std::thread::Builder::new().spawn(move || lines.for_each(drop)).unwrap();
        Fault(child)
    }
}

/// The thread of a tracer that is no more goes on by itself; one that is asked to end waits for the thread's next call.
impl Drop for Fault {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
