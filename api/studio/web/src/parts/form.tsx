import { Validator } from "@cfworker/json-schema";
import Form from "@rjsf/core";
import type { RJSFSchema, ValidatorType } from "@rjsf/utils";

type Found = { stack: string; property?: string; message?: string };

function check(schema: any, value: unknown): Found[] {
  try {
    return new Validator(schema, "2020-12", false).validate(value).errors.map((error) => ({
      stack: error.error, message: error.error, property: error.instanceLocation.replace(/^#/, "").replaceAll("/", "."),
    }));
  } catch (error) {
    return [{ stack: String(error) }];
  }
}

/** Validates without code made at run time, which the page's policy forbids. */
const validator: ValidatorType = {
  validateFormData: (value, schema) => ({ errors: check(schema, value) as any, errorSchema: {} }),
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
  return (
    <div className="form">
      <Form schema={schema} formData={value} validator={validator} showErrorList="top" templates={TEMPLATES} disabled={busy} tagName={submit ? "form" : "div"}
        onChange={(event: any) => change?.(event.formData)} onSubmit={(event: any) => submit?.(event.formData)}>
        {submit ? <button className="main" type="submit" disabled={busy}>{action ?? "Send"}</button> : <></>}
      </Form>
    </div>
  );
}
