// Package protocoltest is the suite that every protocol passes, and what tests
// of a protocol need: a journal in memory that can be full or slow, and a
// passage without the kernel.
package protocoltest
