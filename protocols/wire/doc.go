// Package wire reads from a connection over borrowed buffers. It knows no
// protocol: it shows a window of what has arrived, and a protocol walks its
// frames in it.
//
// A Reader that has nothing in its window holds no buffer: it waits for the
// socket to become readable first. Every slice of a window is borrowed until
// the next call on its Reader; Poison makes tests see who keeps one.
package wire
