package report

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// What a bundle that somebody sends may make us read: files, bytes of all of them
// and of one that is held in memory, and of a line of a chain.
var (
	maxFiles      = 10_000
	maxTotal      = uint64(16 << 30)
	maxHeld       = uint64(1 << 30)
	maxLine       = 64 << 20
	errTooMuch    = errors.New("it has more in it than is looked at")
	errMoreThanIs = errors.New("it has more in it than it says")
)

// unpacked are the files of a bundle, each there once.
type unpacked map[string]*zip.File

// unpack holds the files against the manifest: none is missing, changed or added.
func unpack(z *zip.Reader) (unpacked, error) {
	if len(z.File) > maxFiles {
		return nil, fmt.Errorf("%w: %d files, %d at most", errTooMuch, len(z.File), maxFiles)
	}
	files, total := unpacked{}, uint64(0)
	for _, f := range z.File {
		if files[f.Name] != nil || !fs.ValidPath(f.Name) {
			return nil, fmt.Errorf("%q is there twice, or is no name of a file", f.Name)
		}
		// What it says is what is read of it: see read.
		if files[f.Name] = f; f.UncompressedSize64 > maxTotal-total {
			return nil, fmt.Errorf("%w: %d bytes at most", errTooMuch, maxTotal)
		}
		total += f.UncompressedSize64
	}
	list, err := files.held(manifest)
	if err != nil {
		return nil, err
	}
	listed := map[string]bool{manifest: true}
	for l := range strings.Lines(string(list)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(l, "\n"), "  ")
		if !ok || listed[name] {
			return nil, fmt.Errorf("%s: line %q is none of sha256sum, or of a file that is listed before", manifest, l)
		}
		listed[name] = true
		if files[name] == nil {
			return nil, fmt.Errorf("%q is missing", name)
		}
		h := sha256.New()
		if err := files.read(name, func(in io.Reader) error { _, err := io.Copy(h, in); return err }); err != nil {
			return nil, err
		}
		if hex.EncodeToString(h.Sum(nil)) != sum {
			return nil, fmt.Errorf("%q was changed", name)
		}
	}
	for name := range files {
		if !listed[name] {
			return nil, fmt.Errorf("%q is not in %s", name, manifest)
		}
	}
	return files, nil
}

// read gives f what a file says that it has, and no more.
func (u unpacked) read(name string, f func(io.Reader) error) error {
	file := u[name]
	if file == nil {
		return fmt.Errorf("%q is missing", name)
	}
	in, err := file.Open()
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	defer in.Close()
	if err := f(io.LimitReader(in, int64(file.UncompressedSize64))); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	// At its end the checksum is held against it.
	switch n, err := io.ReadFull(in, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("%q: %w", name, errMoreThanIs)
	case err != io.EOF:
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}

// held is the content of a file.
func (u unpacked) held(name string) (b []byte, err error) {
	if f := u[name]; f != nil && f.UncompressedSize64 > maxHeld {
		return nil, fmt.Errorf("%q: %w: %d bytes at most", name, errTooMuch, maxHeld)
	}
	err = u.read(name, func(in io.Reader) error { b, err = io.ReadAll(in); return err })
	return b, err
}

// eachLine scans lines with the ends that they have.
func eachLine(in io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxLine)
	s.Split(func(b []byte, end bool) (int, []byte, error) {
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			return i + 1, b[:i+1], nil
		}
		if end && len(b) > 0 {
			return len(b), b, nil
		}
		return 0, nil, nil
	})
	return s
}
