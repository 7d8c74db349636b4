import { Validator } from "@cfworker/json-schema";
import Form from "@rjsf/core";
import { useId } from "react";
import { toErrorSchema, type RJSFSchema, type ValidatorType } from "@rjsf/utils";

type Found = { stack: string; property: string; message: string; name: string };

// Of these, what is wrong inside is listed on its own.
const AROUND = new Set(["properties", "items", "prefixItems", "$ref", "allOf", "if"]);

/** What is wrong, each at its field and in words for a person. */
function check(schema: any, value: unknown): Found[] {
  try {
    const { errors } = new Validator(schema, "2020-12", false).validate(value);
    return errors.filter((error) => !AROUND.has(error.keyword)).map(({ keyword, error, instanceLocation }) => {
      const missing = keyword === "required" ? error.match(/"(.*)"/)?.[1] : undefined;
      const path = instanceLocation.replace(/^#/, "") + (missing === undefined ? "" : `/${missing}`);
      const message = missing === undefined ? error : "is required";
      const property = path.replaceAll("/", ".");
      return { name: keyword, property, message, stack: property ? `${property.slice(1)}: ${message}` : message };
    });
  } catch (error) {
    return [{ name: "schema", property: "", message: String(error), stack: String(error) }];
  }
}

/** Validates without code made at run time, which the page's policy forbids. */
const validator: ValidatorType = {
  validateFormData: (value, schema) => {
    const errors = check(schema, value) as any[];
    return { errors, errorSchema: toErrorSchema(errors) };
  },
  isValid: (schema, value, root) => check({ ...(root as any), ...(schema as any), $defs: (root as any).$defs }, value).length === 0,
  rawValidation: (schema, value) => ({ errors: check(schema, value) as any }),
};

const button = (text: string) => ({ icon, iconType, uiSchema, registry, ...rest }: any) => <button type="button" {...rest}>{text}</button>;
const TEMPLATES = {
  ButtonTemplates: {
    AddButton: button("Add"), RemoveButton: button("Remove"), MoveUpButton: button("Up"), MoveDownButton: button("Down"),
    CopyButton: button("Copy"), ClearButton: button("Clear"),
  },
} as any;

/** A form made from a JSON schema. `submit` gets what passes it. */
export default function SchemaForm({ schema, value, change, submit, action, busy }: {
  schema: RJSFSchema; value?: unknown; change?: (value: any) => void; submit?: (value: any) => void; action?: string; busy?: boolean;
}) {
  const id = useId(); // of the fields: a page may have several forms
  return (
    <div className="form">
      <Form idPrefix={id} schema={schema} formData={value} validator={validator} showErrorList="top" templates={TEMPLATES} disabled={busy} noHtml5Validate focusOnFirstError onError={() => {}} tagName={submit ? "form" : "div"}
        onChange={(event: any) => change?.(event.formData)} onSubmit={(event: any) => submit?.(event.formData)}>
        {submit ? <button className="main" type="submit" disabled={busy}>{action ?? "Send"}</button> : <></>}
      </Form>
    </div>
  );
}
