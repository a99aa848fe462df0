package approval

import (
	"context"
	"fmt"
)

// lock is a mutex that need not be waited for longer than a context lasts: whoever has
// it may wait for the disk.
type lock chan struct{}

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }

// try is Lock where nobody has it.
func (l lock) try() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

// take is Lock, until ctx ends.
func (l lock) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("what is approved is busy, or its disk or record slow: %w", context.Cause(ctx))
	}
}
