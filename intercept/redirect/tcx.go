package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Pins of wires' links, by the interface's index.
const (
	tcxPinPrefix   = "tcx_"
	tcxSparePrefix = "tcxspare_"
)

// haveTCX reports whether the kernel has tcx.
func haveTCX() bool { return runs(6, 6) }

func tcxPin(dir string, index int) string {
	return filepath.Join(dir, tcxPinPrefix+strconv.Itoa(index))
}

// installTCX puts prog before all others at an interface's ingress, by a link
// that is pinned; true if there was none of ours. One that sits there is
// updated.
func installTCX(dir string, index int, prog *ebpf.Program) (fresh bool, err error) {
	info, err := prog.Info()
	if err != nil {
		return false, err
	}
	id, _ := info.ID()
	fresh = true
	if l, err := link.LoadPinnedLink(tcxPin(dir, index), nil); err == nil {
		defer l.Close()
		at, err := tcxOf(l, index)
		if err == nil {
			fresh = false
			switch err := tcxFirst(index, at); {
			case err == nil && at == id:
				return false, nil
			case err == nil:
				return false, l.Update(prog)
			case at == id:
				return false, err // the next guard up has another program, and a place for it
			}
		}
	}
	// Attach first, then replace the pin: never a moment without a program.
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil {
		return false, err
	}
	defer l.Close()
	spare := filepath.Join(dir, tcxSparePrefix+strconv.Itoa(index))
	if err := os.Remove(spare); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := l.Pin(spare); err != nil {
		return false, fmt.Errorf("pin: %w", err)
	}
	return fresh, os.Rename(spare, tcxPin(dir, index))
}

// removeTCX takes the program off an interface, at once.
func removeTCX(dir string, index int) error {
	pin := tcxPin(dir, index)
	if l, err := link.LoadPinnedLink(pin, nil); err == nil {
		defer l.Close()
		if _, err := tcxOf(l, index); err == nil {
			if err := l.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) {
				return err
			}
		}
	}
	if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// tcxAlive reports whether an interface's link is attached, wherever that is.
func tcxAlive(dir string, index int) bool {
	l, err := link.LoadPinnedLink(tcxPin(dir, index), nil)
	if err != nil {
		return false
	}
	defer l.Close()
	_, err = tcxOf(l, index)
	return err == nil
}

var errDetached = errors.New("not attached")

// tcxOf returns the program of a link that is attached to an interface.
func tcxOf(l link.Link, index int) (ebpf.ProgramID, error) {
	info, err := l.Info()
	if err != nil {
		return 0, err
	}
	if t := info.TCX(); t == nil || int(t.Ifindex) != index {
		return 0, errDetached
	}
	return info.Program, nil
}

// tcxFirst is nil where a program sees an interface's frames before all others.
func tcxFirst(index int, id ebpf.ProgramID) error {
	live, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return fmt.Errorf("ask the kernel: %w", err)
	}
	for i, p := range live.Programs {
		if p.ID == id && i == 0 {
			return nil
		} else if p.ID == id {
			return errPlace
		}
	}
	return errDetached
}

// tcxAttached reports whether the pinned link of an interface does its work.
func tcxAttached(dir string, index int) error {
	l, err := link.LoadPinnedLink(tcxPin(dir, index), nil)
	if err != nil {
		return fmt.Errorf("not pinned: %w", err)
	}
	defer l.Close()
	id, err := tcxOf(l, index)
	if err != nil {
		return err
	}
	return tcxFirst(index, id)
}
