// Package discover takes an inventory of who reaches what on a host, without
// enforcing or changing anything: TCP connections as they are made (two small
// BPF programs at the cgroup2 root, held by descriptors and gone with the
// process), those that exist already and who listens (sock_diag, in every
// network namespace that has a process), unix sockets of known databases
// (unix_diag), and the local forwarders among the processes.
//
// It needs root. The programs need what the guard needs: kernel 6.1 and BTF.
package discover
