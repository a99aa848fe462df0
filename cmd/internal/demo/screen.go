package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/render"
)

// screen writes for a person. What comes from a command is made inert.
type screen struct {
	w      io.Writer
	colour bool
}

func newScreen(f *os.File) *screen {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return &screen{w: f, colour: err == nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// Colours, by their SGR parameters (ECMA-48, 8.3.117).
const (
	bold  = "1"
	green = "32"
	red   = "31"
	cyan  = "36"
)

func (s *screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s *screen) line(text string) { fmt.Fprintln(s.w, text) }

func (s *screen) say(format string, args ...any) { s.line(render.Text(fmt.Sprintf(format, args...))) }

func (s *screen) title(n int, text string) {
	s.line("\n" + s.paint(bold, fmt.Sprintf("%d. %s", n, text)))
}

func (s *screen) command(text string) {
	s.line(s.paint(cyan, "$ "+strings.ReplaceAll(render.Text(text), "\n", "\n  ")))
}

const maxLines = 24

func (s *screen) output(text string) {
	lines := strings.Split(strings.TrimRight(render.Text(text), "\n "), "\n")
	for i, l := range lines {
		if i == maxLines && len(lines) > maxLines+1 {
			s.line(fmt.Sprintf("  ... %d more lines", len(lines)-maxLines))
			return
		}
		s.line("  " + l)
	}
}

func (s *screen) right(text string) { s.line(s.paint(green, "ok: ") + render.Text(text)) }
func (s *screen) wrong(text string) { s.line(s.paint(red, "NOT SHOWN: ") + render.Text(text)) }
