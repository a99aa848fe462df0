package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/tlsport"
)

func init() { commands = append(commands, signerCmd) }

// signerCommand is what the loader starts to hold the authority's key.
const signerCommand = "signer"

// signingOrder is a signer's: a line of JSON by stdin. The latest counts.
type signingOrder struct {
	Host   string
	Limits tlsport.Permitted // of an authority that has to be made
	Sign   tlsport.Permitted // what leaves may be signed for
}

func signerCmd() *cobra.Command {
	return &cobra.Command{
		Use:    signerCommand,
		Short:  "Hold the key of this host's authority, for the loader",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := privsep.Confine(); err != nil {
				return err
			}
			signal.Ignore(unix.SIGHUP, unix.SIGPIPE)
			conn, err := net.FileConn(os.NewFile(3, "asks"))
			if err != nil {
				return err
			}
			return sign(conn, [3]*os.File{os.NewFile(4, "root"), os.NewFile(5, "intermediate"), os.NewFile(6, "key")}, os.Stdin)
		},
	}
}

// sign serves until the loader is gone. Where there is no authority it makes one
// and ends: the root's key was in this process.
func sign(conn net.Conn, files [3]*os.File, orders io.Reader) error {
	in := json.NewDecoder(bufio.NewReader(orders))
	var o signingOrder
	if err := in.Decode(&o); err != nil {
		return fmt.Errorf("the loader's order: %w", err)
	}
	f, err := readAuthority(files)
	if err != nil {
		return err
	}
	if len(f.Root) == 0 {
		return makeAuthority(files, &o)
	}
	for _, file := range files {
		file.Close() // what it needs it has read
	}
	a, err := tlsport.LoadAuthority(f)
	clear(f.Key)
	if err != nil {
		return err
	}
	s := tlsport.NewSigner(a, time.Now)
	s.Allow(o.Sign)
	go func() {
		for {
			var o signingOrder
			if in.Decode(&o) != nil {
				conn.Close() // the loader is gone
				return
			}
			s.Allow(o.Sign)
		}
	}()
	if err := s.Serve(conn); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func readAuthority(files [3]*os.File) (f tlsport.Files, err error) {
	for i, text := range []*[]byte{&f.Root, &f.Intermediate, &f.Key} {
		if *text, err = io.ReadAll(io.LimitReader(files[i], 64<<10)); err != nil {
			return f, err
		}
	}
	return f, nil
}

// makeAuthority writes another authority, the root last: where there is a root
// there is all of it.
func makeAuthority(files [3]*os.File, o *signingOrder) error {
	a, err := tlsport.NewAuthority(o.Host, o.Limits, time.Now())
	if err != nil {
		return err
	}
	f, err := a.Files()
	if err != nil {
		return err
	}
	for i, text := range [][]byte{f.Key, f.Intermediate, f.Root} {
		w := files[2-i]
		if err := w.Truncate(0); err != nil {
			return err
		}
		if _, err := w.WriteAt(text, 0); err != nil {
			return err
		}
		if err := w.Sync(); err != nil {
			return err
		}
	}
	return nil
}
