package privsep

import (
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/sandbox"
)

// namespaces are the flags of clone(2) that make one.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// daemonCalls are the system calls that the daemon may make: those of Go's
// runtime and network, of files below its own folders, and of starting and
// ending its parser helpers, who have this filter besides their own.
var daemonCalls = sandbox.Filter{
	Allow: []string{
		// Memory.
		"mmap", "munmap", "mprotect", "madvise", "mremap", "brk", "mincore",
		// Threads, time, signals.
		"futex", "sched_yield", "sched_getaffinity", "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres",
		"gettimeofday", "time", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "tgkill",
		"restart_syscall", "set_robust_list", "set_tid_address", "rseq", "arch_prctl", "membarrier", "getcpu",
		"timer_create", "timer_settime", "timer_delete", "setitimer", "exit", "exit_group",
		"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2",
		"poll", "ppoll", "select", "pselect6", "pause",
		// Who and where it is.
		"getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getgroups", "getresuid", "getresgid",
		"getsid", "getrusage", "getrlimit", "setrlimit", "prlimit64", "sysinfo", "uname", "getcwd", "capget", "getrandom",
		// Files and pipes.
		"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "lseek",
		"open", "openat", "openat2", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "flock", "pipe", "pipe2",
		"stat", "lstat", "fstat", "newfstatat", "fstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2",
		"readlink", "readlinkat", "getdents64", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2",
		"ftruncate", "truncate", "fallocate", "fsync", "fdatasync", "sync_file_range",
		"fadvise64", "readahead", "chmod", "fchmod", "fchmodat", "fchmodat2", "umask", "utimensat", "chdir", "fchdir",
		"copy_file_range", "sendfile", "splice",
		// Sockets that are there.
		"connect", "bind", "listen", "accept", "accept4", "getsockname", "getpeername", "setsockopt", "getsockopt", "shutdown",
		"sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg",
		// Parser helpers.
		"execve", "wait4", "waitid", "kill", "pidfd_open", "pidfd_send_signal", "seccomp",
	},
	AllowIf: []sandbox.Call{
		{Name: "clone", If: []sandbox.Condition{sandbox.HasNone(0, namespaces)}},
		// TCP, DNS, the supervisor's and the loader's sockets.
		{Name: "socket", If: []sandbox.Condition{sandbox.Is(0, unix.AF_UNIX)}},
		{Name: "socket", If: []sandbox.Condition{sandbox.Is(0, unix.AF_INET)}},
		{Name: "socket", If: []sandbox.Condition{sandbox.Is(0, unix.AF_INET6)}},
		{Name: "socketpair", If: []sandbox.Condition{sandbox.Is(0, unix.AF_UNIX)}},
		// The two maps that it has inherited: counters and reports.
		{Name: "bpf", If: []sandbox.Condition{sandbox.Is(0, unix.BPF_MAP_LOOKUP_ELEM)}},
		{Name: "bpf", If: []sandbox.Condition{sandbox.Is(0, unix.BPF_OBJ_GET_INFO_BY_FD)}},
		{Name: "ioctl", If: []sandbox.Condition{sandbox.Is(1, unix.TCGETS)}}, // is it a terminal?
		// Helpers end with their parent, and confine themselves; names of threads
		// and of memory are the C library's and the runtime's.
		{Name: "prctl", If: []sandbox.Condition{sandbox.Is(0, unix.PR_SET_PDEATHSIG)}},
		{Name: "prctl", If: []sandbox.Condition{sandbox.Is(0, unix.PR_SET_NO_NEW_PRIVS)}},
		{Name: "prctl", If: []sandbox.Condition{sandbox.Is(0, unix.PR_SET_DUMPABLE), sandbox.Is(1, 0)}},
		{Name: "prctl", If: []sandbox.Condition{sandbox.Is(0, unix.PR_GET_DUMPABLE)}},
		{Name: "prctl", If: []sandbox.Condition{sandbox.Is(0, unix.PR_SET_NAME)}},
		{Name: "prctl", If: []sandbox.Condition{sandbox.Is(0, unix.PR_SET_VMA)}},
	},
	// The C library then falls back to clone, whose flags can be seen.
	Absent: []string{"clone3"},
	// Nobody but who has taken the daemon over makes these.
	Kill: []string{
		"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp", "userfaultfd", "perf_event_open",
		"mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
		"setns", "unshare", "execveat", "open_by_handle_at", "name_to_handle_at",
		"io_uring_setup", "io_uring_enter", "io_uring_register",
		"keyctl", "add_key", "request_key", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
		"setuid", "setgid", "setresuid", "setresgid", "setreuid", "setregid", "setfsuid", "setfsgid", "setgroups", "capset",
		"swapon", "swapoff", "reboot", "acct", "quotactl", "quotactl_fd", "iopl", "ioperm", "modify_ldt", "vhangup", "syslog",
		"settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "lookup_dcookie", "nfsservctl",
		"fanotify_init",
	},
}
