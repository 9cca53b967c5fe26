package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestChanged finds the text of every change in the installed Go. When this fails after an update of Go, look how its runtime draws random
// numbers now.
func TestChanged(t *testing.T) {
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("there is no go command here")
	}
	files, err := changed(filepath.Join(strings.TrimSpace(string(root)), "src"), os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if !strings.Contains(string(files[c.file]), c.to) {
			t.Errorf("%s lacks %q", c.file, c.to)
		}
	}
}

// TestOtherGo gives the command an installation with other text: it changes nothing, and says which file is different.
func TestOtherGo(t *testing.T) {
	for _, text := range []string{"package runtime\n", changes[0].from + changes[0].from} {
		_, err := changed("src", func(string) ([]byte, error) { return []byte(text), nil })
		if err == nil || !strings.Contains(err.Error(), "runtime/rand.go") {
			t.Errorf("for %q: %v", text, err)
		}
	}
	missing := errors.New("no such file")
	if _, err := changed("src", func(string) ([]byte, error) { return nil, missing }); !errors.Is(err, missing) {
		t.Error(err)
	}
}
