package report

import (
	"archive/zip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// errArchive says that programs which unpack could find something else in an archive than
// what is held against its chains.
var errArchive = errors.New("the archive has something in it that is none of its files, or names them in two ways: it was not made by sallyport report")

// whole holds the archive to what Write makes of it: from its first byte on one file stands
// behind the other, each under one name, then their list, and nothing else. Some programs
// read the files as they stand, others the list, or names in its extensions (APPNOTE.TXT
// 6.3.10, sections 4.3 and 4.6.9).
func whole(in io.ReaderAt, size int64, z *zip.Reader) error {
	if z.Comment != "" {
		return errArchive
	}
	at := int64(0)
	for _, f := range z.File {
		head, err := piece(in, at, 30)
		if err != nil {
			return err
		}
		n, m := int64(binary.LittleEndian.Uint16(head[26:])), int64(binary.LittleEndian.Uint16(head[28:]))
		rest, err := piece(in, at+30, n+m)
		if err != nil {
			return err
		}
		data, err := f.DataOffset()
		switch {
		case err != nil:
			return err
		case binary.LittleEndian.Uint32(head) != 0x04034b50, data != at+30+n+m, string(rest[:n]) != f.Name,
			binary.LittleEndian.Uint16(head[6:]) != f.Flags, binary.LittleEndian.Uint16(head[8:]) != f.Method,
			!plain(rest[n:]), !plain(f.Extra), f.Comment != "", !f.Mode().IsRegular():
			return fmt.Errorf("%q: %w", f.Name, errArchive)
		}
		at = data + int64(f.CompressedSize64)
		if f.Flags&8 == 0 {
			continue
		}
		tail, err := piece(in, at, 4)
		if err != nil || binary.LittleEndian.Uint32(tail) != 0x08074b50 {
			return fmt.Errorf("%q: %w", f.Name, errors.Join(errArchive, err))
		}
		if at += 16; f.CompressedSize64 >= math.MaxUint32 || f.UncompressedSize64 >= math.MaxUint32 {
			at += 8
		}
	}
	return listed(in, at, size, len(z.File))
}

// listed holds that behind the files stands their list, to the archive's end.
func listed(in io.ReaderAt, at, size int64, files int) error {
	end, err := piece(in, size-22, 22)
	if err != nil || binary.LittleEndian.Uint32(end) != 0x06054b50 {
		return errors.Join(errArchive, err)
	}
	n, long, from := int(binary.LittleEndian.Uint16(end[10:])), int64(binary.LittleEndian.Uint32(end[12:])), int64(binary.LittleEndian.Uint32(end[16:]))
	behind := int64(22)
	if n == math.MaxUint16 || long == math.MaxUint32 || from == math.MaxUint32 {
		if end, err = piece(in, size-22-20-56, 56); err != nil || binary.LittleEndian.Uint32(end) != 0x06064b50 {
			return errors.Join(errArchive, err)
		}
		n, long, from = int(binary.LittleEndian.Uint64(end[32:])), int64(binary.LittleEndian.Uint64(end[40:])), int64(binary.LittleEndian.Uint64(end[48:]))
		behind += 20 + 56
	}
	if n != files || from != at || long != size-behind-at {
		return errArchive
	}
	return nil
}

func piece(in io.ReaderAt, at, n int64) ([]byte, error) {
	b := make([]byte, n)
	if at < 0 {
		return nil, errArchive
	}
	if n == 0 {
		return b, nil
	}
	_, err := in.ReadAt(b, at)
	if errors.Is(err, io.EOF) { // there is less
		err = errArchive
	}
	return b, err
}

// plain reports that extensions of a file say no more than its time and its size.
func plain(b []byte) bool {
	for len(b) >= 4 {
		id, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if id != 0x0001 && id != 0x5455 || len(b)-4 < n {
			return false
		}
		b = b[4+n:]
	}
	return len(b) == 0
}
