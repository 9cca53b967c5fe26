// Command openapi makes the description of the HTTP API as OpenAPI 3: it converts the description that protoc-gen-openapiv2 has made from the
// .proto files, and adds the paths that are no calls of gRPC. Its arguments are the file to read, the file to add, and the file to write.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: openapi FROM ADD TO")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

// run converts the description in one file, adds that in another one, and writes the result.
func run(from, add, to string) error {
	var old openapi2.T
	if err := read(from, &old); err != nil {
		return err
	}
	doc, err := openapi2conv.ToV3(&old)
	if err != nil {
		return err
	}
	own, err := openapi3.NewLoader().LoadFromFile(add)
	if err != nil {
		return err
	}
	doc.Info, doc.Tags = own.Info, append(own.Tags, doc.Tags...)
	for path, item := range own.Paths.Map() {
		doc.Paths.Set(path, item)
	}
	for name, schema := range own.Components.Schemas {
		doc.Components.Schemas[name] = schema
	}
	// Errors are problem documents, and not gRPC's statuses.
	problem := own.Components.Responses["Problem"]
	doc.Components.Responses = openapi3.ResponseBodies{"Problem": problem}
	for path, item := range doc.Paths.Map() {
		if own.Paths.Value(path) != nil {
			continue
		}
		for _, operation := range item.Operations() {
			operation.Responses.Set("default", &openapi3.ResponseRef{Ref: "#/components/responses/Problem", Value: problem.Value})
		}
	}
	if err := describeReadable(doc.Components.Schemas); err != nil {
		return err
	}
	text, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(to, append(text, '\n'), 0o644)
}

// describeReadable describes bytes that the API writes as the JSON that they are.
func describeReadable(schemas openapi3.Schemas) error {
	resource, letter := schemas["v1Resource"], schemas["v1DeadLetter"]
	if resource == nil || resource.Value.Properties["status"] == nil || letter == nil || letter.Value.Properties["row"] == nil {
		return errors.New("the status of a resource or the row of a dead letter has another name than before")
	}
	status := openapi3.NewObjectSchema()
	status.Description = resource.Value.Properties["status"].Value.Description
	resource.Value.Properties["status"] = status.NewRef()
	row := openapi3.NewSchema()
	row.Description = "The row, where it is JSON. Its numbers have the texts that they had."
	letter.Value.Properties["row"] = row.NewRef()
	other := openapi3.NewBytesSchema()
	other.Description = "The row, where it is not JSON."
	letter.Value.Properties["row_base64"] = other.NewRef()
	return nil
}

// read reads a file with JSON.
func read(name string, into any) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
