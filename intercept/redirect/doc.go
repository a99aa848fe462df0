// Package redirect makes the kernel turn connections to protected
// destinations into the passage, and reads back who made them.
//
// Two processes use it. The loader is root and holds the capabilities: Up,
// Guard, Down, GetStatus. The daemon has none: Facts, NewListener and
// BypassReader work on the descriptors that it was given.
//
// Everything is pinned below one folder of bpffs, so that the death of either
// process leaves the programs in place and connections refused. Only Down
// removes them. Programs need kernel 6.1.
package redirect
