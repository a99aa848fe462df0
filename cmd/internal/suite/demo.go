package main

import (
	"bytes"
	"context"
)

// demo runs what a newcomer runs. Its own exit code says whether each step
// showed what it says; what it printed matters only when it did not.
func demo(ctx context.Context, s *suite) error {
	cmd := s.command(ctx, ".", "make", "--no-print-directory", "demo")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := s.show(cmd)
	if err != nil {
		_, _ = s.out.Write(said.Bytes())
	}
	return err
}
