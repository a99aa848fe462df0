package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"sallyport.dev/sallyport/intercept/names"
)

// learnNames takes in what the loader's file says that the names lead to.
func (d *daemon) learnNames(fd int) error {
	f := os.NewFile(uintptr(fd), "names")
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxBundle))
	if err != nil {
		return fmt.Errorf("order %s: %w", doNames, err)
	}
	var m names.Map
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("order %s: %w", doNames, err)
	}
	d.names = m
	d.setting.Load().resources.learn(m)
	return nil
}
