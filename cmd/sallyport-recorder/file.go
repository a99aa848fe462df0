package main

import (
	"log/slog"

	"github.com/spf13/cobra"
)

// fileOptions are those of a command that goes by a configuration file of its own.
type fileOptions struct{ config, logFormat string }

func (o *fileOptions) flags(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&o.config, "config", "", what)
	cmd.Flags().StringVar(&o.logFormat, "log-format", "text", "text or json")
	cmd.MarkFlagRequired("config")
	cmd.MarkFlagFilename("config", "yaml")
}

// loadFile reads it, by a function that checks it.
func loadFile[S any](o *fileOptions, load func(path string) (*S, error)) (*S, *slog.Logger, error) {
	log, err := (&options{logFormat: o.logFormat}).logger()
	if err != nil {
		return nil, nil, err
	}
	s, err := load(o.config)
	if err != nil {
		return nil, nil, usageError{err}
	}
	slog.SetDefault(log)
	return s, log, nil
}
