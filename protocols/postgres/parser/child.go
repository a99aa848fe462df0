package parser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"syscall"

	pg "github.com/pganalyze/pg_query_go/v6/parser"
	"golang.org/x/sys/unix"
)

// Command is the argument that makes the program a helper.
const Command = "parser"

// IsChild reports whether this process was started as a helper: its program
// must then do nothing but os.Exit(Main()).
func IsChild() bool { return len(os.Args) == 2 && os.Args[1] == Command }

const (
	exitConfine = 3 // could not confine itself
	stackSize   = 64 << 20
)

// Main serves requests on stdin and stdout until either ends, and returns the
// exit code. It first takes every privilege from itself.
func Main() int {
	if err := growStack(); err != nil {
		fmt.Fprintln(os.Stderr, "parser:", err)
		return exitConfine
	}
	if err := confine(); err != nil {
		fmt.Fprintln(os.Stderr, "parser:", err)
		return exitConfine
	}
	debug.SetMemoryLimit(256 << 20)
	serve(os.Stdin, os.Stdout)
	return 0
}

// growStack starts the program anew with a larger stack if it is small: the
// C library takes the size of its threads' stacks from the limit at start.
func growStack() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &l); err != nil {
		return err
	}
	if l.Cur == stackSize || l.Max < stackSize {
		return nil
	}
	l.Cur = stackSize
	// The kernel keeps what syscall sets; unix.Setrlimit would not tell the
	// runtime, which restores nothing for this limit.
	if err := unix.Setrlimit(unix.RLIMIT_STACK, &l); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// serve answers requests, one by one.
func serve(in io.Reader, out io.Writer) {
	var buf []byte
	for {
		kind, payload, err := readFrame(in, maxTree)
		if err != nil {
			return
		}
		var reply []byte
		switch kind {
		case opParse:
			reply, err = parse(string(payload))
		case opDeparse:
			var sql string
			sql, err = deparse(payload)
			reply = []byte(sql)
		default:
			return
		}
		if err == nil && len(reply) > maxTree {
			err = errors.New("the statement's tree is too large")
		}
		if err != nil {
			buf = appendFrame(buf[:0], replyErr, complaint(err))
		} else {
			buf = appendFrame(buf[:0], replyOK, reply)
		}
		if _, err := out.Write(buf); err != nil {
			return
		}
		if cap(buf) > 1<<20 {
			buf = nil
		}
	}
}

// complaint is what a replyErr carries.
func complaint(err error) []byte {
	var at uint32
	if e := (*pg.Error)(nil); errors.As(err, &e) && e.Cursorpos > 0 {
		at = uint32(e.Cursorpos)
	}
	return append(binary.BigEndian.AppendUint32(nil, at), err.Error()...)
}

// deparse generates SQL, parses it again, and returns it only if that gives
// the same tree: the generator is known to lose parentheses.
func deparse(tree []byte) (string, error) {
	sql, err := pg.DeparseFromProtobuf(tree)
	if err != nil {
		return "", err
	}
	again, err := pg.ParseToProtobuf(sql)
	if err != nil {
		return "", fmt.Errorf("the generated SQL does not parse: %w", err)
	}
	if !sameTree(tree, again) {
		return "", errors.New("the generated SQL is not the statement that was analysed")
	}
	return sql, nil
}
