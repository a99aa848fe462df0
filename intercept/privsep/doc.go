// Package privsep is the line between the loader and the daemon.
//
// The loader is root and small. It proves which process a connection belongs
// to, reads that process's token file, and lets `sallyport exec` put a process
// into a guarded cgroup. Of what the daemon sends it reads messages of fixed
// size: numbers, never a name or a path; and whom a proof is of it reads at the
// accepted socket that comes along, not in a message. The daemon has no
// privilege at all and reads everything hostile.
//
// Loader: NewProver, Start, ListenControl. Daemon: Confine, Dial, Inherited.
// sallyport exec: Enter, Exec.
//
// # What a token file's place means
//
// A template below /proc/{pid}/root is opened inside the process's own root:
// symbolic links, absolute ones too, resolve there and lead nowhere else. The
// workload may choose what stands there, so only its list of subjects says
// what it may present.
//
// Any other template is a path of the host. No symbolic link is followed on
// the way, the file must belong to root or to the process's user, nobody else
// may write to it, and it must have no second hard link. Its folder decides
// who can put a file there: use one that only root, or only that user, may
// write to. With {pid} in such a path, whoever writes the files must remove
// them when the process ends.
package privsep
