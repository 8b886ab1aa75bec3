const missing = () => {
  throw new Error("libsignal is not installed");
};
export { missing as calculateMAC, missing as decrypt, missing as deriveSecrets, missing as encrypt };
