// Package bpf holds the kernel's side of the interception: C programs for the
// cgroup2 hooks, one family per file, and the bindings that bpf2go generates.
// There is no logic in Go here; intercept/redirect loads and feeds them.
//
// The object is built with clang 14 and runs from kernel 6.1 on.
package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -target bpfel -type settings -type endpoint -type process_key -type process -type listener -type flow_key -type record -type report -type mode -type role -type reason -type counter -type prefix -type ports -type birth -type repeat_key -type repeat Guard guard.c -- -O2 -g -Wall -Werror -Iheaders
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -target bpfel -type path -type local -type naming Unix unix.c -- -O2 -g -Wall -Werror -Iheaders
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -target bpfel -type side Stream stream.c -- -O2 -g -Wall -Werror -Iheaders
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -target bpfel -type wire Veth veth.c -- -O2 -g -Wall -Werror -Iheaders
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -target bpfel -type reach -type seen -type fresh -type unseen Discover discover.c -- -O2 -g -Wall -Werror -Iheaders
