package main

import (
	"fmt"
	"io"
	"io/fs"
)

// cpio writes an archive of the kernel's "newc" form (Documentation/
// driver-api/early-userspace/buffer-format.rst), all of it root's.
type cpio struct {
	w   io.Writer
	ino int
	err error // of the first write that failed
}

const (
	cpioDir  = 0o040000
	cpioFile = 0o100000
)

func (c *cpio) dir(name string, perm fs.FileMode) { c.add(name, cpioDir|perm, nil) }

func (c *cpio) file(name string, perm fs.FileMode, content []byte) {
	c.add(name, cpioFile|perm, content)
}

func (c *cpio) add(name string, mode fs.FileMode, content []byte) {
	c.ino++
	head := "070701"
	for _, v := range []int{c.ino, int(mode), 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0} {
		head += fmt.Sprintf("%08x", v)
	}
	c.write(append([]byte(head+name), 0))
	c.write(content)
}

// write pads to four bytes, as names and contents are.
func (c *cpio) write(b []byte) {
	for _, b := range [][]byte{b, make([]byte, -len(b)&3)} {
		if c.err == nil {
			_, c.err = c.w.Write(b)
		}
	}
}

// close ends the archive.
func (c *cpio) close() error {
	c.add("TRAILER!!!", 0, nil)
	return c.err
}
