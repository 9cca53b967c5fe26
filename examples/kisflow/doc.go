// Package kisflow tests the KisFlow programs in the folders beside it, locally and on a cluster. They are KisFlow's own usage
// cases, written anew. Only the import paths differ from those of programs for KisFlow.
package kisflow
