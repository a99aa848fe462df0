package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/reads"
)

// reading puts on the record that a command reads evidence, before it does. What is
// asked for is told by the command's words, never by a subject's own id.
func reading(ctx context.Context, cmd *cobra.Command, what string) error {
	store, err := cmd.Flags().GetString("store")
	if err != nil {
		return err
	}
	folder, err := cmd.Flags().GetString(reads.Flag)
	if err != nil {
		return err
	}
	if err := reads.Note(ctx, store, folder, fmt.Sprintf("%s: %s", cmd.CommandPath(), what)); err != nil {
		return &exitError{code: 1, hint: "evidence is read by an account that may write the folder reads of the store, or with --reads DIR", err: err}
	}
	return nil
}
