package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/export"
	"sallyport.dev/sallyport/events/recorder"
)

func sessionsExport() *cobra.Command {
	var format, output string
	var statement uint64
	cmd := &cobra.Command{
		Use:   "export SESSION",
		Short: "Write a session for other programs",
		Long: `Write a session's evidence and transcript, rows as the agent saw them, as

  jsonl      a line for the session, each event, each statement and each row
  csv        a line for each statement, or with --statement each row of it;
             what a spreadsheet would take for a formula has an apostrophe
             before it
  asciicast  a recording of a terminal with its timing (asciinema, version 3)
  pcapng     the decoded conversation as packets, for Wireshark; how it really
             travelled is not recorded, so that addresses and ports are made up

A file is made readable by its owner alone, and is there only when it is whole.
What --format leaves open the file's name decides, else it is jsonl.`,
		Example: `  sallyport sessions export 0198c2 | jq 'select(.type == "statement")'
  sallyport sessions export 0198c2 --statement 3 -o rows.csv
  sallyport sessions export 0198c2 -o session.pcapng && tshark -r session.pcapng`,
		Args:              exactlyOne("SESSION"),
		ValidArgsFunction: completeSession,
		RunE: func(cmd *cobra.Command, args []string) error {
			if format == "" {
				format = formatOf(output)
			}
			switch {
			case !slices.Contains(export.Formats(), format):
				return configError(fmt.Errorf("--format %q: must be one of %v", format, export.Formats()))
			case statement != 0 && format != "csv":
				return configError(errors.New("--statement is for --format csv: the others have the whole session"))
			case (format == "pcapng" || format == "csv") && output == "-" && isTerminal(cmd.OutOrStdout()):
				return configError(fmt.Errorf("%s has text as it was recorded, which is nothing for a terminal: name a file with --output", format))
			}
			return withStore(cmd, func(ctx context.Context, s *recorder.DB) error {
				x, err := s.Find(ctx, args[0])
				if err != nil {
					return err
				}
				if err := reading(ctx, cmd, "session "+x.ID+" as "+format); err != nil {
					return err
				}
				d, err := s.Show(ctx, x)
				if err != nil {
					return err
				}
				write := func(w io.Writer) error {
					return export.Write(w, format, &export.Session{Detail: d, Chunks: s.Chunks(ctx, x), Statement: statement})
				}
				if output == "-" {
					return write(cmd.OutOrStdout())
				}
				return writeWhole(output, write)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&format, "format", "", "jsonl, csv, asciicast or pcapng")
	fl.StringVarP(&output, "output", "o", "-", "file to write (-: standard output)")
	fl.Uint64Var(&statement, "statement", 0, "csv: the rows of this statement")
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(export.Formats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// formatOf is what a file's name says of its content.
func formatOf(file string) string {
	switch filepath.Ext(file) {
	case ".csv":
		return "csv"
	case ".cast":
		return "asciicast"
	case ".pcapng", ".pcap":
		return "pcapng"
	}
	return "jsonl"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// writeWhole makes a file that is there only once all of it is.
func writeWhole(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".sallyport-*") // mode 0600
	if err != nil {
		return err
	}
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
