// Package proto checks what lies in this directory: that the wire stays compatible with the frozen one, and that the
// generated code is of the .proto files beside it.
package proto

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	gproto "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	kisgridv1 "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// frozen reads the wire that peers of other builds speak.
func frozen(t *testing.T) *descriptorpb.FileDescriptorSet {
	t.Helper()
	content, err := os.ReadFile("kisgrid.binpb")
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := gproto.Unmarshal(content, set); err != nil {
		t.Fatal(err)
	}
	return set
}

func files(t *testing.T, set *descriptorpb.FileDescriptorSet) *protoregistry.Files {
	t.Helper()
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// breaks lists what of the old wire the new one does not understand. Names count too: JSON and people use them.
func breaks(old, current *protoregistry.Files) []string {
	var wrong []string
	old.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Enums().Len() {
			wrong = append(wrong, enumBreaks(file.Enums().Get(i), current)...)
		}
		for i := range file.Messages().Len() {
			wrong = append(wrong, messageBreaks(file.Messages().Get(i), current)...)
		}
		for i := range file.Services().Len() {
			wrong = append(wrong, serviceBreaks(file.Services().Get(i), current)...)
		}
		return true
	})
	slices.Sort(wrong)
	return wrong
}

func enumBreaks(old protoreflect.EnumDescriptor, files *protoregistry.Files) (wrong []string) {
	found, _ := files.FindDescriptorByName(old.FullName())
	current, ok := found.(protoreflect.EnumDescriptor)
	if !ok {
		return []string{fmt.Sprintf("%s is gone", old.FullName())}
	}
	for i := range old.Values().Len() {
		value := old.Values().Get(i)
		now := current.Values().ByNumber(value.Number())
		switch {
		case now == nil && current.ReservedRanges().Has(value.Number()) && current.ReservedNames().Has(value.Name()):
		case now == nil:
			wrong = append(wrong, fmt.Sprintf("%s is gone: reserve its number %d and its name", value.FullName(), value.Number()))
		case now.Name() != value.Name():
			wrong = append(wrong, fmt.Sprintf("%s = %d is called %s now", value.FullName(), value.Number(), now.Name()))
		}
	}
	return wrong
}

func messageBreaks(old protoreflect.MessageDescriptor, files *protoregistry.Files) (wrong []string) {
	found, _ := files.FindDescriptorByName(old.FullName())
	current, ok := found.(protoreflect.MessageDescriptor)
	if !ok {
		return []string{fmt.Sprintf("%s is gone", old.FullName())}
	}
	for i := range old.Fields().Len() {
		field := old.Fields().Get(i)
		now := current.Fields().ByNumber(field.Number())
		switch {
		case now == nil && current.ReservedRanges().Has(field.Number()) && current.ReservedNames().Has(field.Name()):
		case now == nil:
			wrong = append(wrong, fmt.Sprintf("%s is gone: reserve its number %d and its name", field.FullName(), field.Number()))
		case shape(now) != shape(field):
			wrong = append(wrong, fmt.Sprintf("%s was %q, is %q", field.FullName(), shape(field), shape(now)))
		}
	}
	for i := range old.Messages().Len() {
		wrong = append(wrong, messageBreaks(old.Messages().Get(i), files)...)
	}
	for i := range old.Enums().Len() {
		wrong = append(wrong, enumBreaks(old.Enums().Get(i), files)...)
	}
	return wrong
}

// shape is all of a field that must stay.
func shape(f protoreflect.FieldDescriptor) string {
	kind := f.Kind().String()
	if f.Message() != nil {
		kind = string(f.Message().FullName())
	}
	if f.Enum() != nil {
		kind = string(f.Enum().FullName())
	}
	s := fmt.Sprintf("%s %s %s = %d", f.Cardinality(), kind, f.Name(), f.Number())
	if f.HasPresence() {
		s += " with presence"
	}
	if o := f.ContainingOneof(); o != nil {
		s += " of " + string(o.Name())
	}
	return s
}

func serviceBreaks(old protoreflect.ServiceDescriptor, files *protoregistry.Files) (wrong []string) {
	found, _ := files.FindDescriptorByName(old.FullName())
	current, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return []string{fmt.Sprintf("%s is gone", old.FullName())}
	}
	call := func(m protoreflect.MethodDescriptor) string {
		return fmt.Sprintf("(%s, stream %v) returns (%s, stream %v)", m.Input().FullName(), m.IsStreamingClient(), m.Output().FullName(), m.IsStreamingServer())
	}
	for i := range old.Methods().Len() {
		method := old.Methods().Get(i)
		now := current.Methods().ByName(method.Name())
		switch {
		case now == nil:
			wrong = append(wrong, fmt.Sprintf("%s is gone", method.FullName()))
		case call(now) != call(method):
			wrong = append(wrong, fmt.Sprintf("%s was %s, is %s", method.FullName(), call(method), call(now)))
		}
	}
	return wrong
}

func TestWireUnderstandsTheFrozenOne(t *testing.T) {
	_ = kisgridv1.File_kisgrid_v1_batch_proto // its package registers what is compared
	for _, wrong := range breaks(files(t, frozen(t)), protoregistry.GlobalFiles) {
		t.Error(wrong)
	}
}

func TestBreaksAreSeen(t *testing.T) {
	message := func(set *descriptorpb.FileDescriptorSet, name string) *descriptorpb.DescriptorProto {
		for _, file := range set.GetFile() {
			for _, m := range file.GetMessageType() {
				if m.GetName() == name {
					return m
				}
			}
		}
		t.Fatalf("no message %s", name)
		return nil
	}
	columns := func(set *descriptorpb.FileDescriptorSet) *descriptorpb.DescriptorProto {
		return message(set, "Columns")
	}
	enum := func(set *descriptorpb.FileDescriptorSet, name string) *descriptorpb.EnumDescriptorProto {
		for _, file := range set.GetFile() {
			for _, e := range file.GetEnumType() {
				if e.GetName() == name {
					return e
				}
			}
		}
		t.Fatalf("no enum %s", name)
		return nil
	}
	for _, c := range []struct {
		name   string
		change func(*descriptorpb.FileDescriptorSet)
		want   []string
	}{
		{"nothing", func(*descriptorpb.FileDescriptorSet) {}, nil},
		{"a new field", func(s *descriptorpb.FileDescriptorSet) {
			field := gproto.CloneOf(columns(s).Field[3])
			field.Name, field.JsonName, field.Number = new("more"), new("more"), new(int32(99))
			columns(s).Field = append(columns(s).Field, field)
		}, nil},
		{"a field reserved", func(s *descriptorpb.FileDescriptorSet) {
			m := columns(s)
			m.Field = m.Field[:3]
			m.ReservedRange = []*descriptorpb.DescriptorProto_ReservedRange{{Start: new(int32(4)), End: new(int32(5))}}
			m.ReservedName = []string{"encoding"}
		}, nil},
		{"a field gone", func(s *descriptorpb.FileDescriptorSet) { columns(s).Field = columns(s).Field[:3] },
			[]string{"kisgrid.v1.Columns.encoding is gone: reserve its number 4 and its name"}},
		{"another name", func(s *descriptorpb.FileDescriptorSet) { columns(s).Field[3].Name = new("code") },
			[]string{`kisgrid.v1.Columns.encoding was "optional string encoding = 4", is "optional string code = 4"`}},
		{"another type", func(s *descriptorpb.FileDescriptorSet) {
			columns(s).Field[3].Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
		}, []string{`kisgrid.v1.Columns.encoding was "optional string encoding = 4", is "optional bytes encoding = 4"`}},
		{"another cardinality", func(s *descriptorpb.FileDescriptorSet) {
			columns(s).Field[3].Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}, []string{`kisgrid.v1.Columns.encoding was "optional string encoding = 4", is "repeated string encoding = 4"`}},
		{"an outcome gone", func(s *descriptorpb.FileDescriptorSet) { e := enum(s, "Outcome"); e.Value = e.Value[:5] },
			[]string{"kisgrid.v1.OUTCOME_FAILED is gone: reserve its number 5 and its name"}},
		{"an outcome renamed", func(s *descriptorpb.FileDescriptorSet) { enum(s, "Outcome").Value[5].Name = new("LOST") },
			[]string{"kisgrid.v1.OUTCOME_FAILED = 5 is called LOST now"}},
		{"a call streams no more", func(s *descriptorpb.FileDescriptorSet) {
			for _, file := range s.GetFile() {
				for _, service := range file.GetService() {
					if service.GetName() == "Worker" {
						service.Method[0].ServerStreaming = new(false)
					}
				}
			}
		}, []string{"kisgrid.v1.Worker.Session was (kisgrid.v1.CoordinatorMessage, stream true) returns (kisgrid.v1.WorkerMessage, stream true), " +
			"is (kisgrid.v1.CoordinatorMessage, stream true) returns (kisgrid.v1.WorkerMessage, stream false)"}},
	} {
		changed := gproto.CloneOf(frozen(t))
		c.change(changed)
		if got := breaks(files(t, frozen(t)), files(t, changed)); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// A sum beside the generated code says what it was generated from. `make proto` writes the sums; `make proto-check`
// generates again and compares, which takes longer than a test should.
func TestGeneratedCodeIsOfTheseFiles(t *testing.T) {
	content, err := os.ReadFile("SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	summed := map[string]bool{}
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		want, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok {
			t.Fatalf("SHA256SUMS has the line %q: run make proto", lines.Text())
		}
		summed[name] = true
		source, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%v: run make proto", err)
			continue
		}
		if sum := sha256.Sum256(source); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s has changed since code was generated last: run make proto", name)
		}
	}
	err = fs.WalkDir(os.DirFS("."), "kisgrid", func(name string, _ fs.DirEntry, err error) error {
		if (strings.HasSuffix(name, ".proto") || strings.HasSuffix(name, ".pb.go")) && !summed[name] {
			t.Errorf("%s is not in SHA256SUMS: run make proto", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
